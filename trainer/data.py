"""From the settings to reviews as token ids, by way of the cache."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

import pipeline
from pipeline import DATASETS, reviews, vocabulary
from pipeline.cache import Cache
from pipeline.cuts import CutSettings
from pipeline.datasets import (
    READ_BATCH,
    ReviewDataset,
    damage_told,
    hash_buckets,
    in_validation,
    open_dataset,
    untuned,
)
from pipeline.errors import Mistake
from pipeline.review_files import FileSettings, ReviewFiles
from pipeline.reviews import Reviews
from pipeline.rows import Columns
from pipeline.vocabulary import Vectorizer, standardize
from trainer import processor
from trainer.config import TrainConfig
from trainer.files import full_disk_told
from trainer.progress import counted, watched
from trainer.stopping import StopSignals
from trainer.text_checks import check_texts

_T = TypeVar("_T")

_UNLABELLED = "unsupervised"  # the split, as tensorflow-datasets calls it


class Data:
    """The reviews of a run.

    Each of three steps is done once and cached: standardized texts, vocabulary, token ids.

    Args:
        config: The settings.
        dataset: The opened data set that they name.
        stop: Asked between parts of long work whether to go on.
        cache: The cache, if `open_data` has opened it already.

    Attributes:
        dataset: As given.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: ReviewDataset | ReviewFiles,
        *,
        stop: StopSignals | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.dataset = dataset
        self._config = config
        self._stop = stop
        self._cache = cache or _open_cache(config)
        self._identity = {
            **self.dataset.identity,
            "code": _code_hash(),
            "punctuation": config.punctuation,
        }

    def vocabulary(self) -> list[str]:
        """Collects the vocabulary, from the training part alone.

        Raises:
            Mistake: There is no training text, or none has a word.
        """
        config = self._config
        texts = self._cut("train", self._texts("train"))
        check_texts(texts, self.dataset, config)

        def make(folder: Path) -> None:
            parts = self._watch(texts.in_parts(READ_BATCH), len(texts), "counting words")
            words = vocabulary.count((part.texts() for part in parts), vocab_size=config.vocab_size)
            vocabulary.save(words, folder / "vocabulary.txt")

        return self._cached(
            "vocabulary",
            {**self._identity, "cut": config.validation_fraction, "size": config.vocab_size},
            make=make,
            read=lambda folder: vocabulary.load(folder / "vocabulary.txt"),
        )

    def examples(self, split: str, vectorizer: Vectorizer) -> Reviews:
        """Returns `train`, `validation` or `test` as token ids.

        Raises:
            Mistake: No review falls into it.
            Fault: The data set is damaged.
        """
        examples = self._cut(split, self._token_ids(self._stored(split), vectorizer))
        if not len(examples):
            raise Mistake(
                f"{self._config.dataset} has no reviews in its {split} split with "
                f"--validation_fraction={self._config.validation_fraction}; try another"
            )
        return examples

    @property
    def cut(self) -> frozenset[str]:
        """Names the splits that are cut off the train split."""
        if isinstance(self.dataset, ReviewFiles):
            return self.dataset.cut
        return frozenset({"validation"} if self._is_cut("validation") else ())

    def class_counts(self) -> dict[str, list[int]]:
        """Counts the examples of each label in the splits that may be read before training.

        Returns:
            By split, in the order of the data set's `label_names`; `test` only for files.
        """
        if isinstance(self.dataset, ReviewFiles):
            splits = ("train", "validation", "test")
            return {split: self.dataset.class_counts(split) for split in splits}
        counts = {}
        for split in ("train", "validation"):
            labels = self._cut(split, self._texts(self._stored(split))).labels
            numbers = range(len(self.dataset.label_names))
            counts[split] = [int((labels == number).sum()) for number in numbers]
        return counts

    def log_findings(self) -> None:
        """Logs what the user should know about the data before training on them."""
        if isinstance(self.dataset, ReviewFiles):
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
        if isinstance(self.dataset, ReviewFiles):
            return {"files": self.dataset.fingerprint}
        stored = dict.fromkeys(self._stored(split) for split in splits)
        return {split: self._standardized(split)[1] for split in stored}

    def unlabelled(self, vectorizer: Vectorizer) -> Reviews:
        """Returns the unlabelled reviews as token ids, but those whose text is one of validation's.

        `ReviewFiles` leaves these out itself, and also those whose text is in test.

        Raises:
            Mistake: The data set has none.
            Fault: It is damaged.
        """
        if not self.has_unlabelled():
            raise Mistake(
                f"{self._config.dataset} has no unlabelled reviews, which --teacher is for; train "
                "without it, or on --dataset=imdb_reviews"
            )
        stored = self._token_ids(_UNLABELLED, vectorizer)
        if not self._is_cut("validation"):
            return stored
        fraction = self._config.validation_fraction
        return stored[~in_validation(stored.buckets, validation_fraction=fraction)]

    def _cut(self, split: str, stored: Reviews) -> Reviews:
        return stored[self._is_of(split, stored)]

    def _is_of(self, split: str, stored: Reviews) -> np.ndarray:
        """Says which of the reviews that a split is cut from are of it, <bool>[N]."""
        if not self._is_cut(split):
            return np.ones(len(stored), bool)
        fraction = self._config.validation_fraction
        is_validation = in_validation(stored.buckets, validation_fraction=fraction)
        return is_validation if split == "validation" else ~is_validation

    def _is_cut(self, split: str) -> bool:
        """Says whether a split is a part of the data set's train split."""
        return "validation" not in self.dataset.splits and split in ("train", "validation")

    def _stored(self, split: str) -> str:
        """Names the split of the data set that a split is, or is cut from."""
        return "train" if self._is_cut(split) else split

    def _texts(self, split: str) -> Reviews:
        """Standardizes a split of the data set."""
        return self._standardized(split)[0]

    def _standardized(self, split: str) -> tuple[Reviews, str]:
        """Standardizes a split of the data set, and returns the fingerprint of its texts too."""

        def prepare(texts: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
            standard = standardize(texts, punctuation=self._config.punctuation)
            lengths = tf.strings.length(standard)  # bytes
            original = tf.strings.reduce_join(texts), tf.strings.length(texts)
            return *original, tf.strings.reduce_join(standard), lengths, labels, hash_buckets(texts)

        def make(folder: Path) -> None:
            total, content = self.dataset.size(split), hashlib.sha256()
            with damage_told(self.dataset):
                parts = self.dataset.read(split).map(prepare, num_parallel_calls=processor.cores())
                parts = untuned(parts.prefetch(1)).as_numpy_iterator()
                parts = self._watch(parts, total, "reading")
                reviews.write(folder, _hashed(parts, content))
            (folder / "sha256.txt").write_text(content.hexdigest(), encoding="ascii")

        def read(folder: Path) -> tuple[Reviews, str]:
            return reviews.read(folder), (folder / "sha256.txt").read_text(encoding="ascii")

        return self._cached("texts", {**self._identity, "split": split}, make=make, read=read)

    def _token_ids(self, split: str, vectorizer: Vectorizer) -> Reviews:
        """Vectorizes a split of the data set."""
        dtype = np.min_scalar_type(vectorizer.vocabulary_size - 1)

        def make(folder: Path) -> None:
            texts = self._texts(split)
            parts = self._watch(texts.in_parts(READ_BATCH), len(texts), "vectorizing")
            reviews.write(folder, map(functools.partial(_vectorized, vectorizer, dtype), parts))

        key = {**self._identity, "split": split, "vectorizer": vectorizer.identity}
        return self._cached("tokens", key, make=make, read=reviews.read)

    def _cached(self, kind: str, key: dict[str, object], **steps: Callable[[Path], Any]) -> Any:  # noqa: ANN401 as the cache does
        with full_disk_told("the cache", self._cache.root):
            return self._cache.get(kind, key, **steps)

    def _watch(self, parts: Iterable[_T], total: int, what: str) -> Iterator[_T]:
        return watched(parts, total=total, per_part=READ_BATCH, what=what, stop=self._stop)


def _hashed(parts: Iterable[tuple[Any, ...]], content: hashlib._Hash) -> Iterator[tuple[Any, ...]]:
    """Yields standardized texts, and adds the original texts and the labels to a hash."""
    for original, lengths, text, *rest in parts:
        content.update(lengths.astype("<i4").tobytes() + rest[1].astype("<i8").tobytes() + original)
        yield np.frombuffer(text, np.uint8), *rest


def _vectorized(
    vectorizer: Vectorizer, dtype: np.dtype, part: Reviews
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    token_ids = vectorizer.look_up(tf.constant(part.texts(), tf.string))
    values = token_ids.flat_values.numpy().astype(dtype)
    return values, token_ids.row_lengths().numpy(), part.labels, part.buckets


@functools.cache
def _code_hash() -> str:
    """Hashes the code that decides what texts become: a cache of another code is another."""
    paths = [*sorted(Path(pipeline.__file__).parent.glob("*.py")), Path(__file__)]
    code = b"".join(path.read_bytes() for path in paths)
    versions = f"{tf.__version__} {keras.__version__}"
    return hashlib.sha256(code + versions.encode()).hexdigest()


def open_data(
    config: TrainConfig,
    *,
    stop: StopSignals | None = None,
    label_names: Sequence[str] | None = None,
) -> Data:
    """Opens the settings' data set, preparing it where it is not prepared yet.

    Args:
        config: The settings.
        stop: Asked between parts of long work whether to go on.
        label_names: The labels in the order of an existing run; None for a new run.

    Raises:
        Mistake: The data set cannot be used, or has other labels.
        Fault: It is damaged.
    """
    cache = _open_cache(config)
    if config.dataset in DATASETS:
        dataset: ReviewDataset | ReviewFiles = open_dataset(
            config.dataset,
            data_dir=config.data_dir or None,
            download=config.download,
            positive_label=config.positive_label,
            label_names=label_names,
        )
    else:
        with full_disk_told("the cache", cache.root):
            dataset = _open_files(config, cache, stop, label_names)
    return Data(config, dataset, stop=stop, cache=cache)


def _open_files(
    config: TrainConfig,
    cache: Cache,
    stop: StopSignals | None,
    label_names: Sequence[str] | None,
) -> ReviewFiles:
    settings = FileSettings(
        Columns(config.text_column, config.label_column, config.split_column),
        skip_bad_rows=config.skip_bad_rows,
        splits_from_names=config.splits_from_names,
        positive_label=config.positive_label,
        file_format=config.file_format,
    )
    cuts = CutSettings(config.validation_fraction, config.test_fraction, config.drop_duplicates)
    return ReviewFiles(
        config.dataset,
        settings,
        cuts,
        cache=cache,
        code=_code_hash(),
        label_names=label_names,
        watch=functools.partial(counted, what=f"parsing {config.dataset}", stop=stop),
    )


def _open_cache(config: TrainConfig) -> Cache:
    folder = Path(config.cache_dir).expanduser() if config.cache_dir else None
    return Cache(folder, limit=int(config.cache_gb * 1e9))


def make_vectorizer(words: list[str], config: TrainConfig) -> Vectorizer:
    """Makes what turns texts into token ids by the settings."""
    return Vectorizer(
        words,
        sequence_length=config.sequence_length,
        truncate=config.truncate,
        punctuation=config.punctuation,
    )
