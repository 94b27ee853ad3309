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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from pipeline.errors import UserError
from scripts.cli import commands, streams
from scripts.cli.flags import FLAGS, define_setting_flags, get_settings
from scripts.dev.measure.data_sets import LARGE, NAMES, write_data_set
from scripts.dev.measure.measuring import check_names, measure_in_process
from scripts.dev.measure.records import Recorder, name_without_folder
from scripts.dev.measure.tables import RECIPES, Results, format_comparison, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RECIPES_DIR = Path(__file__).parents[1] / "recipes"
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
        from scripts.dev.measure.methods import BASELINES, measure
    if FLAGS.measure:
        print(json.dumps(measure(FLAGS.measure, get_settings(), Path(FLAGS.folder))))
        return
    known = [*BASELINES, *RECIPES, *_VARIANTS]
    methods = FLAGS.methods or [m for m in known if FLAGS.pretrained or not _is_pretrained(m)]
    if not FLAGS.pretrained and any(map(_is_pretrained, methods)):
        raise UserError("--methods=pretrained needs the folder of an encoder: --pretrained=FOLDER")
    check_names("methods", known)
    check_names("data_sets", [*NAMES, "all"])
    names = NAMES if "all" in FLAGS.data_sets else FLAGS.data_sets or [FLAGS.dataset]
    results = _measure_all(names, methods)
    print(format_comparison(results))
    if FLAGS.picture:
        _draw(results, Path(FLAGS.picture))


def _measure_all(data_sets: Sequence[str], methods: list[str]) -> dict[str, Results]:
    """Measures methods on some of NAMES, or on --dataset."""
    from scripts.dev.measure.methods import SLOW

    recorder = Recorder("scripts.dev.compare")
    all_results: dict[str, Results] = {}
    for data_set in data_sets:
        results: Results = {}
        all_results[name_without_folder(data_set)] = results
        for method in methods:
            if data_set in LARGE and method in SLOW:
                continue
            for seed in range(_count_seeds(data_set, method)):
                with tempfile.TemporaryDirectory() as folder:
                    result = _measure_in_process(method, seed, Path(folder), data_set)
                streams.print_message(f"{data_set}: {method}, seed {seed}: {result}")
                results.setdefault(method, []).append(result)
                recorder.write(all_results)
    return all_results


def _count_seeds(data_set: str, method: str) -> int:
    """Returns --seeds, or 1 if the seed changes neither the data nor the method."""
    from scripts.dev.measure.methods import BASELINES, RANDOM

    is_random = data_set in NAMES or method not in BASELINES or method in RANDOM
    return FLAGS.seeds if is_random else 1


def _measure_in_process(method: str, seed: int, folder: Path, data_set: str) -> dict[str, float]:
    """Measures a method in its own process."""
    arguments = [*sys.argv[1:], f"--seed={seed}", f"--measure={method}"]
    if data_set in NAMES:
        write_data_set(data_set, seed, folder / "data.csv")
        arguments += [f"--dataset={folder / 'data.csv'}", "--split_column=split"]
    recipe = "pretrained" if _is_pretrained(method) else method
    if recipe in RECIPES:
        arguments.insert(0, f"--flagfile={_RECIPES_DIR / recipe}.flags")
    arguments += _VARIANTS.get(method, []) if _is_pretrained(method) else ["--pretrained="]
    return measure_in_process("scripts.dev.compare", [*arguments, f"--folder={folder}"])


def _is_pretrained(method: str) -> bool:
    return method == "pretrained" or method in _VARIANTS


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
        is_recipe = method in RECIPES
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
        seconds, accuracy, deviation = summarize(per_seed)
        name, color, weight = method, "tab:gray", "normal"
        if method in RECIPES:
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
