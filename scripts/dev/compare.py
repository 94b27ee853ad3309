"""Compares the recipes with other methods: python -m scripts.dev.compare [flags].

Trains each method on the train split of --dataset and measures it on the test split. The time is
that from texts in memory to a fitted model. It includes the vocabulary, tracing, validation and
checkpoints. It excludes imports, reading the data set and scoring the test split. Methods with
random numbers run once per seed, each in its own process. With --data_sets, each seed has other
training examples, so all methods run once per seed; the slow ones skip the large data sets.
Progress goes to stderr, a Markdown table to stdout.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from pipeline.errors import UserError
from scripts.cli import commands, streams
from scripts.cli.flags import FLAGS, define_setting_flags, get_settings
from scripts.dev.data_sets import LARGE, NAMES, write_data_set
from scripts.dev.measuring import check_names, format_table, measure_in_process

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Results = dict[str, list[dict[str, float]]]  # what `measure` returns for each seed, by method

_COLUMNS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "auc": "AUC",
    "loss": "loss",
    "calibration_error": "calibration error",
}
_RECIPES_DIR = Path(__file__).parents[1] / "recipes"
_RECIPES = ("fast", "quick", "tutorial", "pretrained")
# Variants of the recipe pretrained: their flags. Only these and the recipe get --pretrained.
_VARIANTS = {
    "pretrained alone": ["--ngrams=0"],
    "frozen": ["--train_layers=0", "--validation_fraction=0"],
    "frozen alone": ["--train_layers=0", "--validation_fraction=0", "--ngrams=0"],
}


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_list("data_sets", "", f"in place of --dataset: all, or some of {NAMES}")
    flags.DEFINE_list("methods", "", "methods to compare; empty: all")
    flags.DEFINE_integer("seeds", 3, "number of seeds, from 0", lower_bound=1)
    flags.DEFINE_string("picture", "", "file for a picture of accuracy against time")
    flags.DEFINE_string("json", "", "file to write all measurements to")
    flags.DEFINE_string("measure", "", "run only this method, in this process, and print JSON")
    flags.DEFINE_string("folder", "", "folder for the cache and the runs of --measure")
    define_setting_flags()


def main() -> None:
    """Measures each method with each seed, and prints a table."""
    with streams.quiet_stderr():
        from scripts.dev.methods import BASELINES, measure
    if FLAGS.measure:
        print(json.dumps(measure(FLAGS.measure, get_settings(), Path(FLAGS.folder))))
        return
    known = [*BASELINES, *_RECIPES, *_VARIANTS]
    methods = FLAGS.methods or [m for m in known if FLAGS.pretrained or not _is_pretrained(m)]
    if not FLAGS.pretrained and any(map(_is_pretrained, methods)):
        raise UserError("--methods=pretrained needs the folder of an encoder: --pretrained=FOLDER")
    check_names("methods", known)
    check_names("data_sets", [*NAMES, "all"])
    names = NAMES if "all" in FLAGS.data_sets else FLAGS.data_sets or [FLAGS.dataset]
    results = {name: _measure_all(name, methods) for name in names}
    print(_format_table(results))
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if FLAGS.picture:
        _draw(results, Path(FLAGS.picture))


def _measure_all(data_set: str, methods: list[str]) -> Results:
    """Measures methods on one of NAMES, or on --dataset."""
    from scripts.dev.methods import BASELINES, RANDOM, SLOW

    results: Results = {}
    for method in methods:
        if data_set in LARGE and method in SLOW:
            continue
        is_random = data_set in NAMES or method not in BASELINES or method in RANDOM
        for seed in range(FLAGS.seeds if is_random else 1):
            with tempfile.TemporaryDirectory() as folder:
                result = _measure_in_process(method, seed, Path(folder), data_set)
            streams.print_message(f"{data_set}: {method}, seed {seed}: {result}")
            results.setdefault(method, []).append(result)
    return results


def _measure_in_process(method: str, seed: int, folder: Path, data_set: str) -> dict[str, float]:
    """Measures a method in its own process."""
    arguments = [*sys.argv[1:], f"--seed={seed}", f"--measure={method}"]
    if data_set in NAMES:
        write_data_set(data_set, seed, folder / "data.csv")
        arguments += [f"--dataset={folder / 'data.csv'}", "--split_column=split"]
    recipe = "pretrained" if _is_pretrained(method) else method
    if recipe in _RECIPES:
        arguments.insert(0, f"--flagfile={_RECIPES_DIR / recipe}.flags")
    arguments += _VARIANTS.get(method, []) if _is_pretrained(method) else ["--pretrained="]
    return measure_in_process("scripts.dev.compare", [*arguments, f"--folder={folder}"])


def _is_pretrained(method: str) -> bool:
    return method == "pretrained" or method in _VARIANTS


def _summarize(results: list[dict[str, float]]) -> tuple[float, float, float]:
    """Returns the median seconds, and the mean and standard deviation of the accuracy."""
    accuracies = [result["accuracy"] for result in results]
    deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    seconds = statistics.median(result["seconds"] for result in results)
    return seconds, statistics.mean(accuracies), deviation


def _format_table(all_results: dict[str, Results]) -> str:
    rows = []
    for data_set, results in all_results.items():
        for method, per_seed in sorted(results.items(), key=lambda item: _summarize(item[1])[0]):
            seconds, _, deviation = _summarize(per_seed)
            name = f"**`{method}.flags`**" if method in _RECIPES else method
            cells = [_format_mean([r[key] for r in per_seed if key in r]) for key in _COLUMNS]
            cells[0] += f" ± {deviation:.4f}" if len(per_seed) > 1 else ""
            rows.append([data_set, name, f"{seconds:.1f}", *cells, len(per_seed)])
    return format_table(["", "", "seconds to train", *_COLUMNS.values(), "seeds"], rows)


def _format_mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f}" if values else "-"


def _draw(all_results: dict[str, Results], path: Path) -> None:
    """Draws accuracy against seconds; for several data sets, macro F1 of each."""
    from matplotlib.figure import Figure

    size = (8, 4.5) if len(all_results) == 1 else (8, 1.5 + 0.5 * len(all_results))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    if len(all_results) == 1:
        (results,) = all_results.values()
        _draw_axes(axes, results)
    else:
        _draw_data_sets(axes, all_results)
        figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)


def _draw_data_sets(axes: Axes, all_results: dict[str, Results]) -> None:
    """Draws a row of points for each data set, one for each method."""
    methods = list(dict.fromkeys(method for results in all_results.values() for method in results))
    for number, method in enumerate(methods):
        rows = [row for row, results in enumerate(all_results.values()) if method in results]
        means = [
            statistics.mean(result["macro_f1"] for result in results[method])
            for results in all_results.values()
            if method in results
        ]
        is_recipe = method in _RECIPES
        color, marker = (
            ("tab:orange", "D") if is_recipe else (f"C{number + 3}", "os^v<>Pp"[number % 8])
        )
        name = f"{method}.flags" if is_recipe else method
        axes.plot(means, rows, marker, color=color, label=name, alpha=0.8)
    axes.set_yticks(range(len(all_results)), list(all_results))
    axes.set(xlabel="macro F1 on the test split")
    axes.invert_yaxis()
    axes.grid(alpha=0.3)


def _draw_axes(axes: Axes, results: Results) -> None:
    """Draws accuracy against seconds, with one standard deviation as error bars."""
    from matplotlib.ticker import LogLocator, NullLocator

    for method, per_seed in results.items():
        seconds, accuracy, deviation = _summarize(per_seed)
        name, color, weight = method, "tab:gray", "normal"
        if method in _RECIPES:
            name, color, weight = f"{method}.flags", "tab:orange", "bold"
        point = (seconds, accuracy)
        axes.errorbar(*point, yerr=deviation, fmt="o", color=color, capsize=3)
        axes.annotate(name, point, (6, 4), textcoords="offset points", fontweight=weight)
    axes.set(xscale="log", xlabel="seconds to train", ylabel="test accuracy")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.3, y=0.1)
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    commands.run(main, define_flags)
