"""Compares the recipes with other methods: python -m scripts.dev.compare [flags].

Trains each method on the train split of --dataset, which the recipes divide into train and
validation, and measures accuracy and macro F1 on the test split. The time is measured from texts in
memory to a fitted model. It includes the vocabulary, tracing, validation, checkpoints and training
the teacher. It excludes imports, reading the data set and scoring the test split. Methods with
random numbers run once per seed, each in its own process.
Progress goes to stderr, a Markdown table to stdout.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from absl import flags

from scripts.cli import commands, streams
from scripts.cli.flags import FLAGS, define_setting_flags, get_settings
from scripts.dev.measuring import check_names, format_table, measure_in_process

Results = dict[str, list[dict[str, float]]]  # what `measure` returns for each seed, by method

_RECIPES_DIR = Path(__file__).parents[1] / "recipes"
_DETERMINISTIC = ("TF-IDF of words", "TF-IDF of words and pairs", "NB-SVM")  # one seed is enough
# Each recipe, and the recipe of its teacher.
_TEACHERS: dict[str, str | None] = {"fast": None, "quick": "fast", "tutorial": None}


def define_flags() -> None:
    """Defines the flags of this command."""
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
    known = [*BASELINES, *_TEACHERS]
    check_names("methods", known)
    results = _measure_all(FLAGS.methods or known)
    print(_format_table(results))
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if FLAGS.picture:
        _draw(results, Path(FLAGS.picture))


def _measure_all(methods: list[str]) -> Results:
    results: Results = {}
    for method in methods:
        for seed in range(1 if method in _DETERMINISTIC else FLAGS.seeds):
            with tempfile.TemporaryDirectory() as folder:
                result = _measure_in_process(method, seed, Path(folder))
            streams.print_message(f"{method}, seed {seed}: {result}")
            results.setdefault(method, []).append(result)
    return results


def _measure_in_process(method: str, seed: int, folder: Path) -> dict[str, float]:
    """Measures a method in its own process; adds the seconds of its teacher, if it has one."""
    arguments, teacher_seconds = [*sys.argv[1:], f"--seed={seed}", f"--measure={method}"], 0.0
    if teacher := _TEACHERS.get(method):
        teacher_seconds = _measure_in_process(teacher, seed, folder)["seconds"]
        arguments.append(f"--teacher={folder / teacher}")
    if method in _TEACHERS:
        arguments.insert(0, f"--flagfile={_RECIPES_DIR / method}.flags")
    result = measure_in_process("scripts.dev.compare", [*arguments, f"--folder={folder}"])
    return result | {"seconds": teacher_seconds + result["seconds"]}


def _summarize(results: list[dict[str, float]]) -> tuple[float, float, float]:
    """Returns the median seconds, and the mean and standard deviation of the accuracy."""
    accuracies = [result["accuracy"] for result in results]
    deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    seconds = statistics.median(result["seconds"] for result in results)
    return seconds, statistics.mean(accuracies), deviation


def _format_table(results: Results) -> str:
    rows = []
    for method, per_seed in sorted(results.items(), key=lambda item: _summarize(item[1])[0]):
        seconds, accuracy, deviation = _summarize(per_seed)
        spread = f" ± {deviation:.4f}" if len(per_seed) > 1 else ""
        name = f"**`{method}.flags`**" if method in _TEACHERS else method
        macro_f1 = statistics.mean(result["macro_f1"] for result in per_seed)
        cells = [f"{seconds:.1f}", f"{accuracy:.4f}{spread}", f"{macro_f1:.4f}", len(per_seed)]
        rows.append([name, *cells])
    return format_table(["", "seconds to train", "test accuracy", "macro F1", "seeds"], rows)


def _draw(results: Results, path: Path) -> None:
    """Draws accuracy against seconds, with one standard deviation as error bars."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for method, per_seed in results.items():
        seconds, accuracy, deviation = _summarize(per_seed)
        name, color, weight = method, "tab:gray", "normal"
        if method in _TEACHERS:
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
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    commands.run(main, define_flags)
