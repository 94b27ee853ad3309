"""The baselines of scripts.dev.compare: methods of other libraries.

A baseline is a function of the texts, the labels, the seed and a folder for its files. It fits a
model, and returns a function that predicts labels.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Predict = Callable[[Sequence[bytes]], "np.ndarray"]  # texts [N] to labels <bool>[N]
Fit = Callable[[list[bytes], "np.ndarray", int, Path], Predict]

_SKLEARN = ("sklearn.linear_model", "sklearn.svm", "sklearn.feature_extraction.text")


def import_for(method: str) -> None:
    """Imports the package of a method, so that the import is not timed.

    Raises:
        UserError: The package is not installed.
    """
    modules = ("fasttext",) if method.startswith("fastText") else _SKLEARN
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{method} needs {error.name}: pip install -e '.[peers]'") from error


def _tf_idf(max_features: int | None, max_words: int) -> Fit:
    """Returns logistic regression on TF-IDF of n-grams of up to `max_words` words."""

    def fit(texts: list[bytes], labels: np.ndarray, seed: int, folder: Path) -> Predict:
        del seed, folder
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        vectorizer = TfidfVectorizer(
            max_features=max_features, ngram_range=(1, max_words), min_df=2, sublinear_tf=True
        )
        classifier = LogisticRegression(C=10 if max_words > 1 else 1, max_iter=1000)
        model = make_pipeline(vectorizer, classifier)
        model.fit(texts, labels)
        return lambda texts: model.predict(texts) == 1

    return fit


def _nb_svm(texts: list[bytes], labels: np.ndarray, seed: int, folder: Path) -> Predict:
    """Fits NB-SVM on n-grams of up to three words (Wang & Manning, 2012)."""
    del seed, folder
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.svm import LinearSVC

    vectorizer = CountVectorizer(binary=True, ngram_range=(1, 3), token_pattern=r"\w+|[^\w\s]")
    present = vectorizer.fit_transform(texts)
    counts = [present[labels == label].sum(axis=0) + 1 for label in (0, 1)]
    ratios = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
    model = LinearSVC(C=0.01).fit(present.multiply(ratios).tocsr(), labels)
    return lambda texts: model.predict(vectorizer.transform(texts).multiply(ratios).tocsr()) == 1


def _fast_text(max_words: int) -> Fit:
    """Returns fastText with n-grams of up to `max_words` words."""

    def fit(texts: list[bytes], labels: np.ndarray, seed: int, folder: Path) -> Predict:
        import fasttext
        import numpy as np

        lines = [
            f"__label__{label} {text}\n"
            for label, text in zip(labels, map(_prepare_for_fast_text, texts), strict=True)
        ]
        (folder / "train.txt").write_text("".join(lines), encoding="utf-8")
        model = fasttext.train_supervised(
            str(folder / "train.txt"), wordNgrams=max_words, lr=0.5, verbose=0, seed=seed
        )

        def predict(texts: Sequence[bytes]) -> np.ndarray:
            predicted, _ = model.predict([_prepare_for_fast_text(text) for text in texts])
            return np.array([names == ["__label__1"] for names in predicted])

        return predict

    return fit


def _prepare_for_fast_text(text: bytes) -> str:
    """Prepares a text as fastText's own tutorial does."""
    without_tags = re.sub(r"<[^>]*>", " ", text.decode(errors="replace").lower())
    return " ".join(re.sub(r"([.!?,'/()])", r" \1 ", without_tags).split())


BASELINES: dict[str, Fit] = {
    "TF-IDF of words": _tf_idf(10_000, 1),
    "TF-IDF of words and pairs": _tf_idf(None, 2),
    "NB-SVM": _nb_svm,
    "fastText": _fast_text(1),
    "fastText of pairs": _fast_text(2),
}
DETERMINISTIC = ("TF-IDF of words", "TF-IDF of words and pairs", "NB-SVM")  # one seed is enough
