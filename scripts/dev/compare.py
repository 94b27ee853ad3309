"""Sets the recipes against what one would pick instead: python -m scripts.dev.compare [flags].

Official train split to official test split of --dataset. Each method has a process of its own. The
clock runs from texts in memory to a fitted model: vocabulary, vectorizing, tracing, validation and
checkpoints are in it, and so is all that of its teacher; imports, reading the data set and scoring
the test split are not. What draws random numbers runs once for each seed. Progress goes to stderr;
a Markdown table to stdout.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from pipeline.errors import UserError
from scripts.cli import commands
from scripts.cli.commands import FLAGS

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from pipeline.datasets import NamedDataset
    from trainer.config import TrainConfig

_RECIPES = Path(__file__).parent / "recipes"
# Recipes, and the one that teaches each.
_COMPARED = {"fast": None, "quick": "fast", "tutorial": None}

Fitted = Callable[[Sequence[bytes]], "np.ndarray"]  # texts to whether each is positive


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_list("methods", "", "what to measure; empty for all")
    flags.DEFINE_integer("seeds", 3, "how many seeds; they count from 0", lower_bound=1)
    flags.DEFINE_string("picture", "", "file that a picture of accuracy against time is written to")
    flags.DEFINE_string("json", "", "file that all that was measured is written to as well")
    flags.DEFINE_string("measure", "", "measure this alone, once, in this process, and print JSON")
    flags.DEFINE_string("folder", "", "where --measure has its cache and runs")
    commands.define_setting_flags()


def main(arguments: list[str]) -> None:
    """Measures each method with each seed, and prints a table."""
    commands.refuse(arguments)
    if FLAGS.measure:
        config = commands.settings()
        commands.set_threads(config)
        print(json.dumps(_measure(config)))
        return
    known = [*_PEERS, *_COMPARED]
    unknown = set(FLAGS.methods) - set(known)
    if unknown:
        raise UserError(f"--methods={','.join(unknown)} is unknown; choose from {','.join(known)}")
    measured: dict[str, list[dict[str, float]]] = {}
    for method in FLAGS.methods or known:
        for seed in range(FLAGS.seeds if method not in _EXACT else 1):
            with tempfile.TemporaryDirectory() as folder:
                result = _measured_apart(method, seed, Path(folder))
            commands.note(f"{method}, seed {seed}: {result}")
            measured.setdefault(method, []).append(result)
    print(_table(measured))
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    if FLAGS.picture:
        _draw(measured, Path(FLAGS.picture))


def _measured_apart(method: str, seed: int, folder: Path) -> dict[str, float]:
    """Measures a method, after its teachers, each in a process of its own; adds up the seconds."""
    chosen, seconds = [*sys.argv[1:], f"--seed={seed}", f"--measure={method}"], 0.0
    teacher = _COMPARED.get(method)
    if teacher:
        seconds = _measured_apart(teacher, seed, folder)["seconds"]
        chosen.append(f"--teacher={folder / teacher}")
    if method in _COMPARED:
        chosen.insert(0, f"--flagfile={_RECIPES / method}.flags")
    result = commands.measured_apart([*chosen, f"--folder={folder}"])
    return result | {"seconds": seconds + result["seconds"]}


def _measure(config: TrainConfig) -> dict[str, float]:
    import numpy as np

    with commands.quiet_stderr():
        from trainer.data import open_corpus
    _import_for(FLAGS.measure)
    dataset = open_corpus(config).dataset
    folder = Path(FLAGS.folder)
    texts, labels = (np.concatenate(parts) for parts in zip(*dataset.read("train"), strict=True))
    if FLAGS.measure in _PEERS:
        fit = functools.partial(_PEERS[FLAGS.measure], texts.tolist(), labels, config, folder)
    else:
        fit = functools.partial(_train, _held_in_memory(dataset, config), config, folder)
    start = time.monotonic()
    positive = fit()
    seconds = time.monotonic() - start
    tested, truth = (np.concatenate(p) for p in zip(*dataset.read("test"), strict=True))
    accuracy = float(np.mean(positive(tested.tolist()) == (truth == 1)))
    return {"seconds": seconds, "accuracy": accuracy}


def _import_for(method: str) -> None:
    """Imports what the method will, before the clock runs."""
    modules = ["sklearn.linear_model", "sklearn.svm", "sklearn.feature_extraction.text"]
    if method in _COMPARED:
        modules = ["trainer.run"]
    elif method.startswith("fastText"):
        modules = ["fasttext"]
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{method} needs {error.name}: pip install -e '.[peers]'") from error


def _held_in_memory(dataset: NamedDataset, config: TrainConfig) -> NamedDataset:
    """Reads what training will, so that the clock does without."""
    from pipeline.datasets import NamedDataset

    splits = ("train", "unsupervised") if config.teacher else ("train",)
    held = {split: dataset.read(split).cache() for split in splits}
    for batches in held.values():
        for _ in batches:  # the cache is whole when they have gone by
            pass

    class Held(NamedDataset):
        def read(self, split: str) -> tf.data.Dataset:
            return held[split]

    return Held(dataset.name, dataset.label_names, dataset.builder)


def _train(dataset: NamedDataset, config: TrainConfig, folder: Path) -> Fitted:
    """Trains as scripts.train does, up to the test split."""
    from trainer.artifacts.trained_run import load
    from trainer.data import make_corpus
    from trainer.preparation import prepare_run

    config = dataclasses.replace(config, cache_dir=str(folder / "cache"))
    model_dir = folder / FLAGS.measure
    model_dir.mkdir()
    trainer = prepare_run(config, make_corpus(config, dataset), model_dir)
    trainer.fit(model_dir)
    best = load(model_dir)
    return lambda texts: best.predict(texts) > 0.5


def _tf_idf(words: int | None, longest: int) -> Callable[..., Fitted]:
    def fit(texts: list[bytes], labels: np.ndarray, *_: object) -> Fitted:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        vectorizer = TfidfVectorizer(
            max_features=words, ngram_range=(1, longest), min_df=2, sublinear_tf=True
        )
        model = make_pipeline(
            vectorizer, LogisticRegression(C=10 if longest > 1 else 1, max_iter=1000)
        )
        model.fit(texts, labels)
        return lambda texts: model.predict(texts) == 1

    return fit


def _nb_svm(texts: list[bytes], labels: np.ndarray, *_: object) -> Fitted:
    """Fits NB-SVM on n-grams of up to three words (Wang & Manning, 2012)."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.svm import LinearSVC

    vectorizer = CountVectorizer(binary=True, ngram_range=(1, 3), token_pattern=r"\w+|[^\w\s]")
    present = vectorizer.fit_transform(texts)
    counts = [present[labels == label].sum(axis=0) + 1 for label in (0, 1)]
    ratios = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
    model = LinearSVC(C=0.01).fit(present.multiply(ratios).tocsr(), labels)
    return lambda texts: model.predict(vectorizer.transform(texts).multiply(ratios).tocsr()) == 1


def _fast_text(longest: int) -> Callable[..., Fitted]:
    def fit(texts: list[bytes], labels: np.ndarray, config: TrainConfig, folder: Path) -> Fitted:
        import fasttext
        import numpy as np

        lines = [
            f"__label__{label} {text}\n"
            for label, text in zip(labels, map(_words, texts), strict=True)
        ]
        (folder / "train.txt").write_text("".join(lines), encoding="utf-8")
        model = fasttext.train_supervised(
            str(folder / "train.txt"), wordNgrams=longest, lr=0.5, verbose=0, seed=config.seed
        )
        return lambda texts: np.array(
            [found == ["__label__1"] for found in model.predict(list(map(_words, texts)))[0]]
        )

    return fit


def _words(text: bytes) -> str:
    """Prepares a text as fastText's own tutorial does."""
    text = re.sub(r"<[^>]*>", " ", text.decode(errors="replace").lower())
    return " ".join(re.sub(r"([.!?,'/()])", r" \1 ", text).split())


_PEERS: dict[str, Callable[..., Fitted]] = {
    "TF-IDF of words": _tf_idf(10_000, 1),
    "TF-IDF of words and pairs": _tf_idf(None, 2),
    "NB-SVM": _nb_svm,
    "fastText": _fast_text(1),
    "fastText of pairs": _fast_text(2),
}
_EXACT = ("TF-IDF of words", "TF-IDF of words and pairs", "NB-SVM")  # draw no random numbers


def _summary(results: list[dict[str, float]]) -> tuple[float, float, float]:
    """Returns the median of the seconds, the mean accuracy and its standard deviation."""
    accuracies = [result["accuracy"] for result in results]
    deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    seconds = statistics.median(result["seconds"] for result in results)
    return seconds, statistics.mean(accuracies), deviation


def _table(measured: dict[str, list[dict[str, float]]]) -> str:
    lines = ["| | seconds to train | test accuracy | seeds |", "|---|---|---|---|"]
    for method, results in sorted(measured.items(), key=lambda item: _summary(item[1])[0]):
        seconds, accuracy, deviation = _summary(results)
        spread = f" ± {deviation:.4f}" if len(results) > 1 else ""
        name = f"**`{method}.flags`**" if method in _COMPARED else method
        lines.append(f"| {name} | {seconds:.1f} | {accuracy:.4f}{spread} | {len(results)} |")
    return "\n".join(lines)


def _draw(measured: dict[str, list[dict[str, float]]], path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for method, results in measured.items():
        seconds, accuracy, deviation = _summary(results)
        is_ours = method in _COMPARED
        color = "tab:orange" if is_ours else "tab:gray"
        axes.errorbar(seconds, accuracy, yerr=deviation, fmt="o", color=color, capsize=3)
        axes.annotate(
            f"{method}.flags" if is_ours else method,
            (seconds, accuracy),
            xytext=(6, 4),
            textcoords="offset points",
            fontweight="bold" if is_ours else "normal",
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
