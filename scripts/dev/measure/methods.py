"""The methods that scripts.dev.compare measures: baselines of other libraries, and recipes.

A baseline is a function that returns a function of the texts, the labels, the seed and a folder for
its files. That function fits a model, and returns a function from texts to logits.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from pipeline.corpus import Dataset
from pipeline.errors import UserError
from pipeline.file_dataset.dataset import RowDataset
from pipeline.named_dataset.dataset import NamedDataset
from trainer.artifacts.pretrained import read_encoder_folder
from trainer.artifacts.trained_run import load
from trainer.config import TrainConfig
from trainer.data import make_corpus, open_corpus
from trainer.evaluation.metrics import compute_metrics
from trainer.preparation import prepare_run
from trainer.runtime import devices

Predict = Callable[[Sequence[bytes]], np.ndarray]  # texts [N] to logits <float>[N, L]
Fit = Callable[[list[bytes], np.ndarray, int, Path], Predict]

_TOKENS = r"\w+|[^\w\s]"


def _tf_idf(max_features: int | None, max_words: int) -> Fit:
    """Returns logistic regression on TF-IDF of n-grams of up to `max_words` words."""

    def fit(texts: list[bytes], labels: np.ndarray, *_: object) -> Predict:
        vectorizer = TfidfVectorizer(
            max_features=max_features, ngram_range=(1, max_words), min_df=2, sublinear_tf=True
        )
        classifier = LogisticRegression(C=10 if max_words > 1 else 1, max_iter=1000)
        model = make_pipeline(vectorizer, classifier).fit(texts, labels)
        return lambda texts: _to_logits(model.predict_proba(texts))

    return fit


def _tf_idf_cv(class_weight: str | None) -> Fit:
    """Returns logistic regression on TF-IDF of words and pairs, its penalty cross-validated."""

    def fit(texts: list[bytes], labels: np.ndarray, *_: object) -> Predict:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        classifier = LogisticRegressionCV(cv=5, max_iter=1000, class_weight=class_weight)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of defaults that do not matter here
            model = make_pipeline(vectorizer, classifier).fit(texts, labels)
        return lambda texts: _to_logits(model.predict_proba(texts))

    return fit


def _to_logits(probabilities: np.ndarray) -> np.ndarray:
    """Converts probabilities [N, K] to logits <float32>[N, L]."""
    logits = np.log(np.clip(probabilities, 1e-12, 1)).astype(np.float32)
    return logits[:, 1:] - logits[:, :1] if logits.shape[1] == 2 else logits


def _naive_bayes(make_classifier: Callable[[], LinearSVC | LogisticRegression]) -> Fit:
    """Returns a linear classifier of n-grams of up to three words, times their log-ratios.

    One classifier is fitted per class (Wang & Manning, 2012).
    """

    def fit(texts: list[bytes], labels: np.ndarray, *_: object) -> Predict:
        vectorizer = CountVectorizer(binary=True, ngram_range=(1, 3), token_pattern=_TOKENS)
        present = vectorizer.fit_transform(texts)
        models = []
        for number in range(1, 2) if labels.max() == 1 else range(labels.max() + 1):
            is_class = labels == number
            inside, outside = (present[mask].sum(axis=0) + 1 for mask in (is_class, ~is_class))
            ratios = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
            model = make_classifier().fit(present.multiply(ratios).tocsr(), is_class)
            models.append((ratios, model))

        def predict(texts: Sequence[bytes]) -> np.ndarray:
            found = vectorizer.transform(texts)
            scores = [model.decision_function(found.multiply(r).tocsr()) for r, model in models]
            logits = np.stack(scores, axis=1).astype(np.float32)
            return logits if len(scores) == 1 else -np.logaddexp(0, -logits)

        return predict

    return fit


def _fast_text(max_words: int) -> Fit:
    """Returns fastText with n-grams of up to `max_words` words."""

    def fit(texts: list[bytes], labels: np.ndarray, seed: int, folder: Path) -> Predict:
        import fasttext  # an optional dependency

        lines = [
            f"__label__{label} {text}\n"
            for label, text in zip(labels, map(_prepare_for_fast_text, texts), strict=True)
        ]
        (folder / "train.txt").write_text("".join(lines), encoding="utf-8")
        model = fasttext.train_supervised(
            str(folder / "train.txt"), wordNgrams=max_words, lr=0.5, verbose=0, seed=seed
        )

        def predict(texts: Sequence[bytes]) -> np.ndarray:
            predicted, found = model.predict([_prepare_for_fast_text(t) for t in texts], k=-1)
            probabilities = np.zeros([len(texts), labels.max() + 1])
            for row, (names, values) in enumerate(zip(predicted, found, strict=True)):
                probabilities[row, [int(name.removeprefix("__label__")) for name in names]] = values
            return _to_logits(probabilities)

        return predict

    return fit


def _prepare_for_fast_text(text: bytes) -> str:
    """Prepares a text as fastText's own tutorial does."""
    without_tags = re.sub(r"<[^>]*>", " ", text.decode(errors="replace").lower())
    return " ".join(re.sub(r"([.!?,'/()])", r" \1 ", without_tags).split())


BASELINES: dict[str, Fit] = {
    "TF-IDF of words": _tf_idf(10_000, 1),
    "TF-IDF of words and pairs": _tf_idf(None, 2),
    "TF-IDF with CV": _tf_idf_cv(None),
    "TF-IDF with CV (balanced)": _tf_idf_cv("balanced"),
    "NB-SVM": _naive_bayes(lambda: LinearSVC(C=0.01)),
    "NB features": _naive_bayes(lambda: LogisticRegression(max_iter=1000)),
    "fastText": _fast_text(1),
    "fastText of pairs": _fast_text(2),
}
SLOW = ("TF-IDF with CV", "TF-IDF with CV (balanced)")  # many minutes on 20,000 reviews
RANDOM = ("fastText", "fastText of pairs")  # the seed changes their results


def measure(method: str, config: TrainConfig, folder: Path) -> dict[str, float]:
    """Fits a method; returns the time in seconds, and the metrics of the test split.

    Raises:
        UserError: The method's library is not installed.
    """
    devices.set_threads(config.batch_size)
    dataset = open_corpus(config).dataset
    if method in BASELINES:
        texts, labels = _read_splits(dataset, {"train", *_derived(dataset)} - {"test"})
        start = time.monotonic()
        try:
            predict = BASELINES[method](texts.tolist(), labels, config.seed, folder)
        except ImportError as error:
            raise UserError(f"{method} needs {error.name}: pip install -e '.[peers]'") from error
    else:
        in_memory = _load_into_memory(dataset, config)
        start = time.monotonic()
        predict = _train(in_memory, config, folder / method)
    seconds = time.monotonic() - start
    texts, labels = _read_splits(dataset, {"test"})
    metrics = compute_metrics(labels.astype(np.int32), predict(texts.tolist()))
    if method == "NB-SVM":  # its scores are no log-odds
        del metrics["loss"], metrics["calibration_error"]
    return {"seconds": seconds} | metrics


def _derived(dataset: Dataset) -> frozenset[str]:
    """Returns the splits that are taken from train, and that `read("train")` leaves out."""
    return dataset.derived_splits if isinstance(dataset, RowDataset) else frozenset()


def _read_splits(dataset: Dataset, splits: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Reads the texts <object>[N] and the labels <int64>[N] of splits."""
    batches = (dataset.read(split).as_numpy_iterator() for split in sorted(splits))
    texts, labels = zip(*itertools.chain.from_iterable(batches), strict=True)
    return np.concatenate(texts), np.concatenate(labels)


@dataclasses.dataclass(frozen=True)
class _CachedDataset(NamedDataset):
    cached: dict[str, tf.data.Dataset]

    def read(self, split: str) -> tf.data.Dataset:
        return self.cached[split]


def _load_into_memory(dataset: Dataset, config: TrainConfig) -> Dataset:
    """Reads the splits that training needs, so that reading them is not timed."""
    if isinstance(dataset, RowDataset):  # its rows are parsed already
        return dataset
    splits = ("train", "unsupervised") if config.teacher else ("train",)
    cached = {split: dataset.read(split).cache() for split in splits}
    for batches in cached.values():
        for _ in batches:  # a full pass completes the cache
            pass
    return _CachedDataset(**vars(dataset), cached=cached)


def _train(dataset: Dataset, config: TrainConfig, model_dir: Path) -> Predict:
    """Trains as scripts.train does, without the test split."""
    config = dataclasses.replace(config, cache_dir=str(model_dir.parent / "cache"))
    model_dir.mkdir()
    pretrained = read_encoder_folder(config.pretrained) if config.pretrained else None
    words = pretrained.tokenizer.standardization if pretrained else None
    corpus = make_corpus(config, dataset, standardization=words)
    loop = prepare_run(config, corpus, model_dir, pretrained=pretrained)
    loop.fit()
    run = load(model_dir)
    return lambda texts: _to_logits(run.predict(texts))
