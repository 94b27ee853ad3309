"""Compares the recipes with other methods: python -m scripts.dev.compare [flags].

Trains each method on the official train split of --dataset, and measures its accuracy on the test
split. The time is measured from texts in memory to a fitted model. It includes the vocabulary,
tracing, validation, checkpoints and training the teacher. It excludes imports, reading the data set
and scoring the test split. Methods with random numbers run once per seed, each in its own process.
Progress goes to stderr, a Markdown table to stdout.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from pipeline.errors import UserError
from scripts.cli import commands, streams
from scripts.cli.flags import FLAGS, define_setting_flags, get_settings
from scripts.dev.baselines import BASELINES, DETERMINISTIC, Predict, import_for
from scripts.dev.measurements.workload import open_named_dataset
from scripts.dev.processes import measure_in_process, set_threads

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from pipeline.datasets import NamedDataset
    from trainer.config import TrainConfig

Results = dict[str, list[dict[str, float]]]  # seconds and accuracy of each seed, by method

_RECIPES_DIR = Path(__file__).parents[1] / "recipes"
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
    if FLAGS.measure:
        config = get_settings()
        set_threads(config)
        print(json.dumps(_measure(FLAGS.measure, config, Path(FLAGS.folder))))
        return
    known = [*BASELINES, *_TEACHERS]
    unknown = [method for method in FLAGS.methods if method not in known]
    if unknown:
        raise UserError(f"--methods={','.join(unknown)} is unknown; choose from {','.join(known)}")
    results = _measure_all(FLAGS.methods or known)
    print(_format_table(results))
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if FLAGS.picture:
        _draw(results, Path(FLAGS.picture))


def _measure_all(methods: list[str]) -> Results:
    results: Results = {}
    for method in methods:
        for seed in range(1 if method in DETERMINISTIC else FLAGS.seeds):
            with tempfile.TemporaryDirectory() as folder:
                result = _measure_in_process(method, seed, Path(folder))
            streams.print_message(f"{method}, seed {seed}: {result}")
            results.setdefault(method, []).append(result)
    return results


def _measure_in_process(method: str, seed: int, folder: Path) -> dict[str, float]:
    """Measures a method in its own process; adds the seconds of its teacher, if it has one."""
    arguments, teacher_seconds = [*sys.argv[1:], f"--seed={seed}", f"--measure={method}"], 0.0
    teacher = _TEACHERS.get(method)
    if teacher:
        teacher_seconds = _measure_in_process(teacher, seed, folder)["seconds"]
        arguments.append(f"--teacher={folder / teacher}")
    if method in _TEACHERS:
        arguments.insert(0, f"--flagfile={_RECIPES_DIR / method}.flags")
    result = measure_in_process([*arguments, f"--folder={folder}"])
    return result | {"seconds": teacher_seconds + result["seconds"]}


def _measure(method: str, config: TrainConfig, folder: Path) -> dict[str, float]:
    """Fits a method, and returns the time in seconds and the accuracy on the test split."""
    dataset = open_named_dataset(config)
    if method in BASELINES:
        import_for(method)
        texts, labels = _read_split(dataset, "train")
        start = time.monotonic()
        predict = BASELINES[method](texts.tolist(), labels, config.seed, folder)
    else:
        import trainer.run  # noqa: F401 so that the import is not timed

        in_memory = _load_into_memory(dataset, config)
        start = time.monotonic()
        predict = _train(in_memory, config, folder / method)
    seconds = time.monotonic() - start
    texts, labels = _read_split(dataset, "test")
    accuracy = float((predict(texts.tolist()) == (labels == 1)).mean())
    return {"seconds": seconds, "accuracy": accuracy}


def _read_split(dataset: NamedDataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the texts <object>[N] and the labels <int64>[N] of a split."""
    import numpy as np

    texts, labels = zip(*dataset.read(split).as_numpy_iterator(), strict=True)
    return np.concatenate(texts), np.concatenate(labels)


def _load_into_memory(dataset: NamedDataset, config: TrainConfig) -> NamedDataset:
    """Reads the splits that training needs, so that reading them is not timed."""
    from pipeline.datasets import NamedDataset

    splits = ("train", "unsupervised") if config.teacher else ("train",)
    cached = {split: dataset.read(split).cache() for split in splits}
    for batches in cached.values():
        for _ in batches:  # a full pass completes the cache
            pass

    class CachedDataset(NamedDataset):
        """A data set in memory."""

        def read(self, split: str) -> tf.data.Dataset:
            """Returns the batches of a split."""
            return cached[split]

    return CachedDataset(dataset.name, dataset.label_names, dataset.builder)


def _train(dataset: NamedDataset, config: TrainConfig, model_dir: Path) -> Predict:
    """Trains as scripts.train does, without the test split."""
    from trainer.artifacts.trained_run import load
    from trainer.data import make_corpus
    from trainer.preparation import prepare_run

    config = dataclasses.replace(config, cache_dir=str(model_dir.parent / "cache"))
    model_dir.mkdir()
    loop = prepare_run(config, make_corpus(config, dataset), model_dir)
    loop.fit(model_dir)
    run = load(model_dir)
    return lambda texts: run.predict(texts) > 0.5


def _summarize(results: list[dict[str, float]]) -> tuple[float, float, float]:
    """Returns the median seconds, and the mean and standard deviation of the accuracy."""
    accuracies = [result["accuracy"] for result in results]
    deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    seconds = statistics.median(result["seconds"] for result in results)
    return seconds, statistics.mean(accuracies), deviation


def _format_table(results: Results) -> str:
    lines = ["| | seconds to train | test accuracy | seeds |", "|---|---|---|---|"]
    for method, per_seed in sorted(results.items(), key=lambda item: _summarize(item[1])[0]):
        seconds, accuracy, deviation = _summarize(per_seed)
        spread = f" ± {deviation:.4f}" if len(per_seed) > 1 else ""
        name = f"**`{method}.flags`**" if method in _TEACHERS else method
        lines.append(f"| {name} | {seconds:.1f} | {accuracy:.4f}{spread} | {len(per_seed)} |")
    return "\n".join(lines)


def _draw(results: Results, path: Path) -> None:
    """Draws accuracy against seconds, with one standard deviation as error bars."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for method, per_seed in results.items():
        seconds, accuracy, deviation = _summarize(per_seed)
        is_recipe = method in _TEACHERS
        color = "tab:orange" if is_recipe else "tab:gray"
        axes.errorbar(seconds, accuracy, yerr=deviation, fmt="o", color=color, capsize=3)
        axes.annotate(
            f"{method}.flags" if is_recipe else method,
            (seconds, accuracy),
            xytext=(6, 4),
            textcoords="offset points",
            fontweight="bold" if is_recipe else "normal",
        )
    axes.set(xscale="log", xlabel="seconds to train", ylabel="test accuracy")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.3, y=0.1)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    commands.run(main, define_flags)
