"""From a data set to splits of token ids: three steps, each done once and cached."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import keras
import numpy as np
import tensorflow as tf

import pipeline
from pipeline import vocabulary
from pipeline.cache import Cache
from pipeline.datasets import (
    READ_BATCH,
    NamedDataset,
    disable_autotune,
    hash_buckets,
    in_validation,
    translate_dataset_errors,
)
from pipeline.errors import UserError, translate_disk_full
from pipeline.examples import Examples, read_examples, write_examples
from pipeline.file_dataset.dataset import FileDataset
from pipeline.text.standardization import standardize
from pipeline.vocabulary import Vectorizer

_T = TypeVar("_T")

_UNLABELLED = "unsupervised"  # the name of this split in tensorflow-datasets


class WithProgress(Protocol):
    """Yields the chunks of long work, shows progress, and may raise to stop it."""

    def __call__(
        self, chunks: Iterable[_T], *, what: str, total: int | None = None, chunk_size: int = 1
    ) -> Iterator[_T]:
        """Yields the chunks; `total` and `chunk_size` count examples."""
        ...


class Corpus:
    """The examples of a run.

    Each of three steps is done once and cached: standardized texts, vocabulary, token ids.

    Args:
        dataset: An open data set.
        validation_fraction: Share of the train split that is cut off for validation, if the data
            set has no validation split.
        punctuation: `drop` or `keep`.
        vocab_size: The largest number of token ids.
        cache: Where the results of the steps are kept.
        with_progress: Wraps long work.
        parallel_calls: How many batches are standardized at the same time.

    Attributes:
        dataset: As given.
    """

    def __init__(
        self,
        dataset: NamedDataset | FileDataset,
        *,
        validation_fraction: float,
        punctuation: str,
        vocab_size: int,
        cache: Cache,
        with_progress: WithProgress,
        parallel_calls: int,
    ) -> None:
        self.dataset = dataset
        self._validation_fraction = validation_fraction
        self._punctuation = punctuation
        self._vocab_size = vocab_size
        self._cache = cache
        self._with_progress = with_progress
        self._parallel_calls = parallel_calls
        self._identity = {**dataset.identity, "code": code_hash(), "punctuation": punctuation}

    def vocabulary(self) -> list[str]:
        """Collects the vocabulary of the train split, without validation."""
        texts = self.texts("train")

        def make(folder: Path) -> None:
            chunks = self._read_chunks(texts, "counting words")
            words = vocabulary.count(
                (chunk.texts() for chunk in chunks), vocab_size=self._vocab_size
            )
            vocabulary.save(words, folder / "vocabulary.txt")

        return self._cached(
            "vocabulary",
            {**self._identity, "cut": self._validation_fraction, "size": self._vocab_size},
            make=make,
            read=lambda folder: vocabulary.load(folder / "vocabulary.txt"),
        )

    def texts(self, split: str) -> Examples:
        """Returns the standardized texts of `train`, `validation` or `test`."""
        return self._cut(split, self._texts(self._stored(split)))

    def examples(self, split: str, vectorizer: Vectorizer) -> Examples:
        """Returns `train`, `validation` or `test` as token ids.

        Raises:
            UserError: No review falls into it.
            RunError: The data set is damaged.
        """
        examples = self._cut(split, self._token_ids(self._stored(split), vectorizer))
        if not len(examples):
            raise UserError(
                f"{self.dataset.name} has no examples in its {split} split with "
                f"--validation_fraction={self._validation_fraction}; try another"
            )
        return examples

    @property
    def cut(self) -> frozenset[str]:
        """Names the splits that are cut off the train split."""
        if isinstance(self.dataset, FileDataset):
            return self.dataset.cut
        return frozenset({"validation"} if self._is_cut("validation") else ())

    def class_counts(self) -> dict[str, list[int]]:
        """Counts the examples of each label in the splits that may be read before training.

        Returns:
            By split, in the order of the data set's `label_names`; `test` only for files.
        """
        if isinstance(self.dataset, FileDataset):
            splits = ("train", "validation", "test")
            return {split: self.dataset.class_counts(split) for split in splits}
        counts = {}
        for split in ("train", "validation"):
            labels = self.texts(split).labels
            numbers = range(len(self.dataset.label_names))
            counts[split] = [int((labels == number).sum()) for number in numbers]
        return counts

    def log_findings(self) -> None:
        """Logs what the user should know about the data before training on them."""
        if isinstance(self.dataset, FileDataset):
            self.dataset.log_findings()

    def has_unlabelled(self) -> bool:
        """Says whether the data set has unlabelled reviews."""
        return _UNLABELLED in self.dataset.splits

    def original_texts(self, split: str, positions: np.ndarray) -> list[bytes]:
        """Reads some reviews of a split as they were written.

        Args:
            split: As `examples` takes it.
            positions: <int64>[N], places among those that `examples` returns.
        """
        stored, places = self._stored(split), positions
        if self._is_cut(split):
            places = np.flatnonzero(self._is_of(split, self._texts(stored)))[positions]
        return self.dataset.texts_at(stored, places)

    def fingerprints(self, splits: Iterable[str]) -> dict[str, str]:
        """Returns a SHA-256 of all texts and labels in their order, for each stored part.

        Files are one part, and the splits of their rows are hashed too. A data set that is opened
        by name has one part per split, so that training need not read the test split.

        Args:
            splits: The splits to hash: train, validation, test, unsupervised.
        """
        if isinstance(self.dataset, FileDataset):
            return {"files": self.dataset.fingerprint}
        stored = dict.fromkeys(self._stored(split) for split in splits)
        return {split: self._standardized(split)[1] for split in stored}

    def unlabelled(self, vectorizer: Vectorizer) -> Examples:
        """Returns the unlabelled reviews as token ids, but those whose text is one of validation's.

        `FileDataset` leaves these out itself, and also those whose text is in test.

        Raises:
            UserError: The data set has none.
            RunError: It is damaged.
        """
        if not self.has_unlabelled():
            raise UserError(
                f"{self.dataset.name} has no unlabelled reviews, which --teacher is for; train "
                "without it, or on --dataset=imdb_reviews"
            )
        stored = self._token_ids(_UNLABELLED, vectorizer)
        if not self._is_cut("validation"):
            return stored
        fraction = self._validation_fraction
        return stored[~in_validation(stored.buckets, validation_fraction=fraction)]

    def _cut(self, split: str, stored: Examples) -> Examples:
        return stored[self._is_of(split, stored)]

    def _is_of(self, split: str, stored: Examples) -> np.ndarray:
        """Says which of the reviews that a split is cut from are of it, <bool>[N]."""
        if not self._is_cut(split):
            return np.ones(len(stored), bool)
        fraction = self._validation_fraction
        is_validation = in_validation(stored.buckets, validation_fraction=fraction)
        return is_validation if split == "validation" else ~is_validation

    def _is_cut(self, split: str) -> bool:
        """Says whether a split is a part of the data set's train split."""
        return "validation" not in self.dataset.splits and split in ("train", "validation")

    def _stored(self, split: str) -> str:
        """Names the split of the data set that a split is, or is cut from."""
        return "train" if self._is_cut(split) else split

    def _texts(self, split: str) -> Examples:
        """Standardizes a split of the data set."""
        return self._standardized(split)[0]

    def _standardized(self, split: str) -> tuple[Examples, str]:
        """Standardizes a split of the data set, and returns the fingerprint of its texts too."""

        def prepare(texts: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
            standard = standardize(texts, punctuation=self._punctuation)
            lengths = tf.strings.length(standard)  # bytes
            original = tf.strings.reduce_join(texts), tf.strings.length(texts)
            return *original, tf.strings.reduce_join(standard), lengths, labels, hash_buckets(texts)

        def make(folder: Path) -> None:
            total, content = self.dataset.size(split), hashlib.sha256()
            with translate_dataset_errors(self.dataset):
                parts = self.dataset.read(split).map(
                    prepare, num_parallel_calls=self._parallel_calls
                )
                parts = disable_autotune(parts.prefetch(1)).as_numpy_iterator()
                parts = self._with_progress(
                    parts, what="reading", total=total, chunk_size=READ_BATCH
                )
                write_examples(folder, _hashed(parts, content))
            (folder / "sha256.txt").write_text(content.hexdigest(), encoding="ascii")

        def read(folder: Path) -> tuple[Examples, str]:
            return read_examples(folder), (folder / "sha256.txt").read_text(encoding="ascii")

        return self._cached("texts", {**self._identity, "split": split}, make=make, read=read)

    def _token_ids(self, split: str, vectorizer: Vectorizer) -> Examples:
        """Vectorizes a split of the data set."""
        dtype = np.min_scalar_type(vectorizer.vocabulary_size - 1)

        def make(folder: Path) -> None:
            texts = self._texts(split)
            chunks = self._read_chunks(texts, "vectorizing")
            write_examples(folder, map(functools.partial(_vectorized, vectorizer, dtype), chunks))

        key = {**self._identity, "split": split, "vectorizer": vectorizer.identity}
        return self._cached("tokens", key, make=make, read=read_examples)

    def _cached(self, kind: str, key: dict[str, object], **steps: Callable[[Path], Any]) -> Any:  # noqa: ANN401 as the cache does
        with translate_disk_full("the cache", self._cache.root):
            return self._cache.get(kind, key, **steps)

    def _read_chunks(self, texts: Examples, what: str) -> Iterator[Examples]:
        return self._with_progress(
            texts.in_chunks(READ_BATCH), what=what, total=len(texts), chunk_size=READ_BATCH
        )


def _hashed(parts: Iterable[tuple[Any, ...]], content: hashlib._Hash) -> Iterator[tuple[Any, ...]]:
    """Yields standardized texts, and adds the original texts and the labels to a hash."""
    for original, lengths, text, *rest in parts:
        content.update(lengths.astype("<i4").tobytes() + rest[1].astype("<i8").tobytes() + original)
        yield np.frombuffer(text, np.uint8), *rest


def _vectorized(
    vectorizer: Vectorizer, dtype: np.dtype, part: Examples
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    token_ids = vectorizer.look_up(tf.constant(part.texts(), tf.string))
    values = token_ids.flat_values.numpy().astype(dtype)
    return values, token_ids.row_lengths().numpy(), part.labels, part.buckets


@functools.cache
def code_hash() -> str:
    """Hashes the code that turns texts into token ids, which is a part of each cache key."""
    paths = sorted(Path(pipeline.__file__).parent.rglob("*.py"))
    code = b"".join(path.read_bytes() for path in paths)
    versions = f"{tf.__version__} {keras.__version__}"
    return hashlib.sha256(code + versions.encode()).hexdigest()
