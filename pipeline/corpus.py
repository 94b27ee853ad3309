"""From a data set to cached splits of token ids."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import tensorflow as tf

from pipeline import vocabulary
from pipeline.cache import Cache
from pipeline.errors import UserError
from pipeline.examples import Chunk, Examples, read_examples, write_examples
from pipeline.file_dataset.dataset import RowDataset
from pipeline.file_dataset.parsed_rows import SPLIT_NAMES
from pipeline.file_dataset.splitting import SplitSettings, take_from_train
from pipeline.reading import (
    READ_BATCH,
    disable_autotune,
    hash_buckets,
    in_validation,
    translate_read_errors,
)
from pipeline.text.tokenizer import Standardization, Tokenizer
from pipeline.text.words import WordNumbers, split_words

if TYPE_CHECKING:  # TFDS is slow to import, and files do not need it
    from pipeline.named_dataset.dataset import NamedDataset

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# Both are read by split. Only a RowDataset counts its classes before the texts are read.
Dataset: TypeAlias = "NamedDataset | RowDataset"

_TRAIN = SPLIT_NAMES.index("train")
_LARGE_BATCH = 2**16  # words to look up, or examples to count words in
# The word numbers of all examples, concatenated; and how many words each example has.
_WORD_NUMBERS_SPEC = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int32)]
_HASHES = 2**62  # different hashes of texts
_UNLABELLED = "unsupervised"  # the name of this split in tensorflow-datasets


class _SourceWords(NamedTuple):
    """The standardized texts of a source split."""

    examples: Examples  # word numbers; see `WordNumbers`
    words: bytes  # the word of each number, each followed by a line feed
    sha256: str  # of all original texts and labels
    hashes: np.ndarray  # <uint64>[N], of the original texts


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """The train, validation and test splits of a run, as words and as token ids.

    Three results are computed once and cached: the words of standardized texts, the vocabulary, and
    the token ids. A *source split* is a split of the data set. A validation or test split that the
    data set lacks is taken from the source split `train`; see `take_from_train`. Examples without a
    label are dropped.
    """

    dataset: Dataset
    split_settings: SplitSettings
    standardization: Standardization
    vocab_size: int  # the largest number of token ids
    cache: Cache
    with_progress: Callable[..., Iterator[Any]]  # wraps chunks, and is called by `_show_progress`
    parallel_calls: int  # batches that are standardized at the same time

    @functools.cached_property
    def _identity(self) -> dict[str, object]:
        """Returns the cache key of all results."""
        return {**self.dataset.identity, **self.standardization.identity}

    def vocabulary(self) -> list[str]:
        """Returns the most frequent tokens of the train split, without the validation split."""

        def make(folder: Path) -> None:
            words = self._source_words(self._source("train")).words
            counts = np.zeros(words.count(b"\n"), np.int64)
            for chunk in self.words("train").in_chunks(_LARGE_BATCH):
                counts += np.bincount(chunk.read(), minlength=len(counts))
            tokens = vocabulary.most_frequent_tokens(
                _lines(words), counts, vocab_size=self.vocab_size
            )
            vocabulary.save(tokens, folder / "vocabulary.txt")

        fraction = self.split_settings.validation_fraction
        sizes = {"validation_fraction": fraction, "size": self.vocab_size}
        if "test" in self._missing:
            sizes["test_fraction"] = self.split_settings.test_fraction
        return self.cache.get(
            "vocabulary",
            self._identity | sizes,
            make=make,
            read=lambda folder: vocabulary.load(folder / "vocabulary.txt"),
        )

    def words(self, split: str) -> Examples:
        """Returns `train`, `validation` or `test` as word numbers; see `WordNumbers`."""
        examples = self._source_words(self._source(split)).examples
        return examples[self._mask(split, examples)]

    def examples(self, split: str, tokenizer: Tokenizer) -> Examples:
        """Returns `train`, `validation` or `test` as token ids.

        Raises:
            UserError: The split is empty.
            RunError: The data set is damaged.
        """
        if split == "validation" and not self.has_validation:
            raise self._no_examples(split)
        source = self._token_ids(self._source(split), tokenizer)
        dropped = int((source.labels < 0).sum())
        if dropped and split == self._source(split):
            _log.warning(
                "%s: dropped %d of %d examples of the %s split, with no label of train",
                *(self.dataset.name, dropped, len(source), split),
            )
        examples = source[self._mask(split, source)]
        if not len(examples):
            raise self._no_examples(split)
        return examples

    def _no_examples(self, split: str) -> UserError:
        return UserError(
            f"{self.dataset.name} has no examples in its {split} split with "
            f"--validation_fraction={self.split_settings.validation_fraction}; try another value"
        )

    @property
    def has_validation(self) -> bool:
        """Returns whether there is a validation split: in the data set, or taken from train."""
        if self.split_settings.validation_fraction:
            return True
        if isinstance(self.dataset, RowDataset):
            return self.dataset.size("validation") > 0
        return "validation" in self.dataset.splits

    @property
    def derived_splits(self) -> frozenset[str]:
        """Returns the names of the splits that are derived from the source split `train`."""
        if isinstance(self.dataset, RowDataset):
            return self.dataset.derived_splits
        return self._missing

    def class_counts(self) -> dict[str, list[int]]:
        """Returns the number of examples per label, ordered as `label_names`, of each split.

        The test split is included only for a RowDataset, which has its counts already, and if it
        is taken from the train split.
        """
        validation = ["validation"] if self.has_validation else []
        if isinstance(self.dataset, RowDataset):
            splits = ("train", *validation, "test")
            return {split: self.dataset.class_counts(split) for split in splits}
        splits = ("train", *validation, *(self._missing & {"test"}))
        classes = len(self.dataset.label_names)
        return {s: np.bincount(self.words(s).labels, minlength=classes).tolist() for s in splits}

    def log_findings(self) -> None:
        """Logs warnings about the user's data before training."""
        if isinstance(self.dataset, RowDataset):
            self.dataset.log_findings()
            return
        sources = {**dict.fromkeys(self._missing, "taken from train"), **self.dataset.sources}
        listed = ", ".join(f"{s}: {sources[s]}" for s in SPLIT_NAMES[:3] if s in sources)
        _log.info("%s: source of each split: %s", self.dataset.name, listed)

    def original_texts(self, split: str, positions: np.ndarray) -> list[bytes]:
        """Returns the texts before standardization, at positions <int64>[N] of `examples`."""
        source = self._source(split)
        mask = self._mask(split, self._source_words(source).examples)
        return self.dataset.texts_at(source, np.flatnonzero(mask)[positions])

    def fingerprints(self, splits: Iterable[str]) -> dict[str, str]:
        """Returns the SHA-256 of all texts and labels of splits in their order.

        A RowDataset has one SHA-256, under the key `files` or `arrays`, which also covers the split
        of each row. A NamedDataset has one per source split: training need not read the test split.
        """
        if isinstance(self.dataset, RowDataset):
            return {self.dataset.source.kind: self.dataset.fingerprint}
        sources = dict.fromkeys(self._source(split) for split in splits)
        return {source: self._source_words(source).sha256 for source in sources}

    def unlabelled(self, tokenizer: Tokenizer) -> Examples:
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
        unlabelled = self._token_ids(_UNLABELLED, tokenizer)
        if not self._missing:
            return unlabelled
        evaluated = self._source_words("train").hashes[self._split_numbers != _TRAIN]
        is_copy = np.isin(self._source_words(_UNLABELLED).hashes, evaluated)
        if "validation" in self._missing:
            fraction = self.split_settings.validation_fraction
            is_copy |= in_validation(unlabelled.hash_buckets, validation_fraction=fraction)
        return unlabelled[~is_copy]

    @property
    def _missing(self) -> frozenset[str]:
        """Returns the names of the splits that are taken from the train split."""
        wanted = {"validation", "test"} if self.split_settings.validation_fraction else {"test"}
        return frozenset(wanted - self.dataset.splits)

    @functools.cached_property
    def _split_numbers(self) -> np.ndarray:
        """Returns the split <uint8>[N], an index into SPLIT_NAMES, of the source split `train`."""
        examples, _, _, hashes = self._source_words("train")
        numbers = np.full(len(examples), _TRAIN, np.uint8)
        take_from_train(self._missing, numbers, hashes, examples, self.split_settings)
        return numbers

    def _source(self, split: str) -> str:
        """Returns the name of the source split that contains a split."""
        return "train" if split in self._missing else split

    def _mask(self, split: str, source: Examples) -> np.ndarray:
        """Returns a mask <bool>[N] of the source examples that are in a split and have a label."""
        is_labelled = source.labels >= 0
        if not self._missing or self._source(split) != "train":
            return is_labelled
        return is_labelled & (self._split_numbers == SPLIT_NAMES.index(split))

    def _source_words(self, source: str) -> _SourceWords:
        """Returns the words of a source split, and hashes of the original texts."""
        content, hashes, words = hashlib.sha256(), [np.empty(0, np.uint64)], WordNumbers()

        def chunks() -> Iterator[Chunk]:
            batches = self.dataset.read(source).map(
                self._standardize, num_parallel_calls=self.parallel_calls
            )
            batches = disable_autotune(batches.prefetch(1)).as_numpy_iterator()
            batches = self._show_progress(batches, "reading", self.dataset.size(source))
            for (joined, sizes), labels, (buckets, text_hashes), split in batches:
                distinct, positions, lengths = split
                content.update(sizes.astype("<i4").tobytes())
                content.update(labels.astype("<i8").tobytes())
                content.update(joined)
                hashes.append(text_hashes.astype(np.uint64) << np.uint64(2))
                yield words.number(distinct)[positions], lengths, labels, buckets

        def make(folder: Path) -> None:
            dataset = self.dataset
            data_dir = None if isinstance(dataset, RowDataset) else dataset.builder.data_dir
            with translate_read_errors(dataset.name, data_dir):
                write_examples(folder, chunks())
            with (folder / "words.txt").open("wb") as file:
                file.writelines(word + b"\n" for word in words.words())
            np.save(folder / "hashes.npy", np.concatenate(hashes), allow_pickle=False)
            (folder / "sha256.txt").write_text(content.hexdigest(), encoding="ascii")

        def read(folder: Path) -> _SourceWords:
            sha256 = (folder / "sha256.txt").read_text(encoding="ascii")
            words, hashes = (folder / "words.txt").read_bytes(), np.load(folder / "hashes.npy")
            return _SourceWords(read_examples(folder), words, sha256, hashes)

        return self.cache.get("words", self._identity | {"split": source}, make=make, read=read)

    @tf.autograph.experimental.do_not_convert  # AutoGraph takes 0.4 s and would change nothing
    def _standardize(self, texts: tf.Tensor, labels: tf.Tensor) -> tuple[Any, ...]:
        """Standardizes a batch of texts; returns the elements that `_source_words` reads."""
        original = tf.strings.reduce_join(texts), tf.strings.length(texts)  # in bytes
        hashes = hash_buckets(texts), tf.strings.to_hash_bucket_fast(texts, _HASHES)
        return original, labels, hashes, split_words(self.standardization(texts))

    def _token_ids(self, source: str, tokenizer: Tokenizer) -> Examples:
        dtype = np.min_scalar_type(tokenizer.vocabulary_size - 1)

        def chunks() -> Iterator[Chunk]:
            examples, words, *_ = self._source_words(source)
            ids_of_words = _look_up(tokenizer, words)

            @tf.function(input_signature=_WORD_NUMBERS_SPEC, autograph=False)
            def to_token_ids(numbers: tf.Tensor, lengths: tf.Tensor) -> tf.RaggedTensor:
                ids = tf.RaggedTensor.from_row_lengths(
                    tf.gather(ids_of_words, numbers), tf.cast(lengths, tf.int64)
                )
                return tokenizer.complete(ids.merge_dims(1, 2))

            parts = self._show_progress(examples.in_chunks(READ_BATCH), "tokenizing", len(examples))
            for part in parts:
                token_ids = to_token_ids(part.read().astype(np.int32), part.lengths)
                values = token_ids.flat_values.numpy().astype(dtype)
                yield values, token_ids.row_lengths().numpy(), part.labels, part.hash_buckets

        return self.cache.get(
            "tokens",
            self._identity | {"split": source, "tokenizer": tokenizer.identity},
            make=lambda folder: write_examples(folder, chunks()),
            read=read_examples,
        )

    def _show_progress(self, chunks: Iterator[_T], description: str, total: int) -> Iterator[_T]:
        """Yields chunks of READ_BATCH texts and shows progress."""
        return self.with_progress(
            chunks, description=description, total=total, chunk_size=READ_BATCH
        )


def _look_up(tokenizer: Tokenizer, words: bytes) -> tf.RaggedTensor:
    """Returns the token ids of words, each followed by a line feed, ragged <int32>[W, (ids)]."""
    lines, parts = _lines(words), [tokenizer.look_up(tf.constant([], tf.string))]
    while batch := list(itertools.islice(lines, _LARGE_BATCH)):
        parts.append(tokenizer.look_up(tf.constant(batch)))
    return tf.concat(parts, axis=0)


def _lines(words: bytes) -> Iterator[bytes]:
    """Yields the words, without line feeds; a list of millions would need much more memory."""
    return (line.removesuffix(b"\n") for line in io.BytesIO(words))
