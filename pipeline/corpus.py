"""From a data set to cached splits of token ids."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import tensorflow as tf

from pipeline import vocabulary
from pipeline.cache import Cache
from pipeline.datasets import (
    READ_BATCH,
    NamedDataset,
    damage_error,
    disable_autotune,
    first_line,
    hash_buckets,
    in_validation,
)
from pipeline.errors import RunError, UserError
from pipeline.examples import Chunk, Examples, read_examples, write_examples
from pipeline.file_dataset.dataset import RowDataset
from pipeline.text.standardization import standardize
from pipeline.vocabulary import Vectorizer

_T = TypeVar("_T")

Dataset = NamedDataset | RowDataset  # both are read by split; rows also know their counts

_UNLABELLED = "unsupervised"  # the name of this split in tensorflow-datasets


class WithProgress(Protocol):
    """A function that wraps an iterable of chunks to show progress."""

    def __call__(
        self, chunks: Iterable[_T], *, description: str, total: int, chunk_size: int
    ) -> Iterator[_T]:
        """Yields the chunks and shows progress; may raise an exception to stop the work."""


class Corpus:
    """The train, validation and test splits of a run, as standardized texts and as token ids.

    Three results are computed once and cached: standardized texts, vocabulary, token ids. A *source
    split* is a split of the data set. If the data set has no validation split, the train and
    validation splits of the run come from the source split `train`.

    Args:
        dataset: An open data set.
        validation_fraction: Share of the train split that becomes the validation split, if the data
            set has none.
        punctuation: `drop` or `keep`; see `standardize`.
        vocab_size: The largest number of token ids.
        cache: Stores the results.
        with_progress: Shows the progress of long work.
        parallel_calls: The number of batches that are standardized at the same time.

    Attributes:
        dataset: The open data set.
    """

    def __init__(
        self,
        dataset: Dataset,
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
        self._identity = {**dataset.identity, "punctuation": punctuation}

    def vocabulary(self) -> list[str]:
        """Returns the most frequent tokens of the train split, without the validation split."""
        texts = self.texts("train")

        def make(folder: Path) -> None:
            chunks = self._show_progress(texts.in_chunks(READ_BATCH), "counting tokens", len(texts))
            tokens = vocabulary.most_frequent_tokens(
                (chunk.texts() for chunk in chunks), vocab_size=self._vocab_size
            )
            vocabulary.save(tokens, folder / "vocabulary.txt")

        sizes = {"validation_fraction": self._validation_fraction, "size": self._vocab_size}
        return self._cache.get(
            "vocabulary",
            self._identity | sizes,
            make=make,
            read=lambda folder: vocabulary.load(folder / "vocabulary.txt"),
        )

    def texts(self, split: str) -> Examples:
        """Returns the standardized texts of `train`, `validation` or `test`."""
        return self._select(split, self._source_texts(split))

    def examples(self, split: str, vectorizer: Vectorizer) -> Examples:
        """Returns `train`, `validation` or `test` as token ids.

        Raises:
            UserError: The split is empty.
            RunError: The data set is damaged.
        """
        examples = self._select(split, self._token_ids(self._source(split), vectorizer))
        if not len(examples):
            raise UserError(
                f"{self.dataset.name} has no examples in its {split} split with "
                f"--validation_fraction={self._validation_fraction}; try another value"
            )
        return examples

    @property
    def derived_splits(self) -> frozenset[str]:
        """Returns the names of the splits that are derived from the source split `train`."""
        if isinstance(self.dataset, RowDataset):
            return self.dataset.derived_splits
        return frozenset({"validation"} if self._is_partial("validation") else ())

    def class_counts(self) -> dict[str, list[int]]:
        """Returns the number of examples per label, ordered as `label_names`, of each split.

        The test split is included only for a RowDataset, which has its counts already.
        """
        if isinstance(self.dataset, RowDataset):
            splits = ("train", "validation", "test")
            return {split: self.dataset.class_counts(split) for split in splits}
        counts, numbers = {}, range(len(self.dataset.label_names))
        for split in ("train", "validation"):
            labels = self.texts(split).labels
            counts[split] = [int((labels == number).sum()) for number in numbers]
        return counts

    def log_findings(self) -> None:
        """Logs warnings about the user's data before training."""
        if isinstance(self.dataset, RowDataset):
            self.dataset.log_findings()

    def original_texts(self, split: str, positions: np.ndarray) -> list[bytes]:
        """Returns the texts before standardization, at positions <int64>[N] of `examples`."""
        if self._is_partial(split):
            positions = np.flatnonzero(self._mask(split, self._source_texts(split)))[positions]
        return self.dataset.texts_at(self._source(split), positions)

    def fingerprints(self, splits: Iterable[str]) -> dict[str, str]:
        """Returns the SHA-256 of all texts and labels of splits in their order.

        A RowDataset has one SHA-256, under the key `files` or `arrays`, which also covers the split
        of each row. A NamedDataset has one per source split: training need not read the test split.
        """
        if isinstance(self.dataset, RowDataset):
            return {self.dataset.source.kind: self.dataset.fingerprint}
        sources = dict.fromkeys(self._source(split) for split in splits)
        return {source: self._standardized(source)[1] for source in sources}

    def unlabelled(self, vectorizer: Vectorizer) -> Examples:
        """Returns the unlabelled texts that are not in the validation split, as token ids.

        A RowDataset has already dropped unlabelled texts that are in its validation or test split.

        Raises:
            UserError: The data set has no unlabelled texts.
            RunError: The data set is damaged.
        """
        if _UNLABELLED not in self.dataset.splits:
            raise UserError(
                f"{self.dataset.name} has no unlabelled texts, which --teacher needs; train "
                "without it, or on --dataset=imdb_reviews"
            )
        unlabelled = self._token_ids(_UNLABELLED, vectorizer)
        return self._select("train", unlabelled)  # also without the texts of the validation split

    def _is_partial(self, split: str) -> bool:
        """Returns whether a split is only a fraction of the source split `train`."""
        return "validation" not in self.dataset.splits and split in ("train", "validation")

    def _source(self, split: str) -> str:
        """Returns the name of the source split that contains a split."""
        return "train" if self._is_partial(split) else split

    def _select(self, split: str, source: Examples) -> Examples:
        """Selects the examples of a split from those of a source split."""
        return source[self._mask(split, source)] if self._is_partial(split) else source

    def _mask(self, split: str, source: Examples) -> np.ndarray:
        """Returns a mask <bool>[N] of the source examples of a partial split that are in it."""
        fraction = self._validation_fraction
        is_validation = in_validation(source.hash_buckets, validation_fraction=fraction)
        return is_validation if split == "validation" else ~is_validation

    def _source_texts(self, split: str) -> Examples:
        return self._standardized(self._source(split))[0]

    def _standardized(self, source: str) -> tuple[Examples, str]:
        """Returns the standardized texts of a source split, and the SHA-256 of the originals."""

        def make(folder: Path) -> None:
            content = hashlib.sha256()
            with translate_dataset_errors(self.dataset):
                batches = self.dataset.read(source).map(
                    self._standardize, num_parallel_calls=self._parallel_calls
                )
                batches = disable_autotune(batches.prefetch(1)).as_numpy_iterator()
                chunks = self._show_progress(batches, "reading", self.dataset.size(source))
                write_examples(folder, _hash_originals(chunks, content.update))
            (folder / "sha256.txt").write_text(content.hexdigest(), encoding="ascii")

        def read(folder: Path) -> tuple[Examples, str]:
            return read_examples(folder), (folder / "sha256.txt").read_text(encoding="ascii")

        return self._cache.get("texts", self._identity | {"split": source}, make=make, read=read)

    def _standardize(self, texts: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Standardizes a batch of texts; returns the elements that `_hash_originals` reads."""
        standard = standardize(texts, punctuation=self._punctuation)
        lengths = tf.strings.length(standard)  # bytes
        original = tf.strings.reduce_join(texts), tf.strings.length(texts)
        return *original, tf.strings.reduce_join(standard), lengths, labels, hash_buckets(texts)

    def _token_ids(self, source: str, vectorizer: Vectorizer) -> Examples:
        dtype = np.min_scalar_type(vectorizer.vocabulary_size - 1)

        def make(folder: Path) -> None:
            texts = self._standardized(source)[0]
            chunks = self._show_progress(texts.in_chunks(READ_BATCH), "vectorizing", len(texts))
            write_examples(folder, (_vectorize(chunk, vectorizer, dtype) for chunk in chunks))

        key = self._identity | {"split": source, "vectorizer": vectorizer.identity}
        return self._cache.get("tokens", key, make=make, read=read_examples)

    def _show_progress(self, chunks: Iterator[_T], description: str, total: int) -> Iterator[_T]:
        """Yields chunks of READ_BATCH texts and shows progress."""
        return self._with_progress(
            chunks, description=description, total=total, chunk_size=READ_BATCH
        )


def _hash_originals(
    chunks: Iterable[tuple[Any, ...]], add_to_hash: Callable[[bytes], None]
) -> Iterator[Chunk]:
    """Hashes the original texts and labels of `_standardize`, and yields the standardized texts."""
    for original, original_lengths, standard, lengths, labels, buckets in chunks:
        add_to_hash(original_lengths.astype("<i4").tobytes())
        add_to_hash(labels.astype("<i8").tobytes())
        add_to_hash(original)
        yield np.frombuffer(standard, np.uint8), lengths, labels, buckets


def _vectorize(texts: Examples, vectorizer: Vectorizer, dtype: np.dtype) -> Chunk:
    """Returns standardized texts as token ids."""
    token_ids = vectorizer.look_up(tf.constant(texts.texts(), tf.string))
    values = token_ids.flat_values.numpy().astype(dtype)
    return values, token_ids.row_lengths().numpy(), texts.labels, texts.hash_buckets


@contextlib.contextmanager
def translate_dataset_errors(dataset: Dataset) -> Iterator[None]:
    """Translates TensorFlow's read errors into a RunError that says how to repair the data set.

    Raises:
        RunError: A file of the data set is missing, truncated or corrupt.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        if isinstance(dataset, NamedDataset):
            raise damage_error(dataset.name, dataset.builder.data_dir, error) from error
        raise RunError(f"{dataset.name} cannot be read ({first_line(error)})") from error
