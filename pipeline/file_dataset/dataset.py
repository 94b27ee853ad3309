"""A data set of the user's rows, each with a text and a label: in files, or in memory."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.cache import Cache
from pipeline.errors import UserError
from pipeline.file_dataset.checks import check_rows, log_findings
from pipeline.file_dataset.parsed_rows import (
    SPLIT_NAMES,
    ParsedRows,
    load_parsed_rows,
    save_parsed_rows,
)
from pipeline.file_dataset.rows import Row, RowSettings
from pipeline.file_dataset.sources import ArrayData, FileSource
from pipeline.file_dataset.splitting import SplitSettings, make_splits
from pipeline.labels import choose_labels
from pipeline.reading import READ_BATCH


class RowDataset:
    """A data set of the user's rows, with the interface of `NamedDataset`.

    The rows are read once, into a cache entry. A test or validation split that they lack is taken
    from the train split; see `make_splits`.

    Args:
        source: The files or arrays.
        settings: The settings for the rows.
        split_settings: The settings for the splits that the rows lack.
        cache: Stores the rows; None: a temporary cache.
        label_names: The labels of an existing run; see `choose_labels`.
        with_progress: Wraps the rows while they are read, to show progress.

    Attributes:
        source: The files or arrays.
        name: The name of the data as the user typed it.
        label_names: The names of the labels, in the order of their numbers.
        derived_splits: The names of the splits that are taken from the train split.
        fingerprint: The SHA-256 of all texts, labels and splits in their order, and of `label_map`.
        identity: A cache key: the content of the source, and the settings.

    Raises:
        UserError: A row cannot be used, or there are not two or more labels.
        RunError: A file cannot be read.
    """

    def __init__(
        self,
        source: FileSource | ArrayData,
        settings: RowSettings,
        split_settings: SplitSettings,
        *,
        cache: Cache | None = None,
        label_names: Sequence[str] | None = None,
        with_progress: Callable[[Iterator[Row]], Iterator[Row]] = iter,
    ) -> None:
        self.source, self.name = source, source.name

        def make(folder: Path) -> None:
            save_parsed_rows(folder, with_progress(source.rows()), source.class_names)

        cache = cache or Cache(None)
        rows = cache.get("rows", source.key, make=make, read=load_parsed_rows)
        check_rows(source, rows, skip=settings.skip_bad_rows)
        self.label_names = choose_labels(
            self.name,
            rows.statistics["labels"],
            settings.label_map,
            declared=rows.statistics["class_names"],
            positive=settings.positive_label,
            expected=label_names,
            question=source.question,
        )
        self._rows = _number_labels(rows, settings.label_map, self.label_names)
        self._splits = make_splits(self._rows, split_settings)
        self._positions = {split: self._splits.positions(split) for split in SPLIT_NAMES}
        if not split_settings.is_test_data and not self.size("train"):
            copies = "--drop_duplicates dropped them, because all are also in another split"
            has_rows = (rows.splits == SPLIT_NAMES.index("train")).any()
            advice = copies if has_rows else source.split_advice
            raise UserError(f"{self.name} has no row in the train split; {advice}")
        self.derived_splits = self._splits.derived_splits
        self.fingerprint = rows.statistics["sha256"]
        if settings.label_map:
            content = f"{self.fingerprint} {sorted(settings.label_map.items())}"
            self.fingerprint = hashlib.sha256(content.encode()).hexdigest()
        self.identity = {
            **source.key,
            "labels": self.label_names,
            "label_map": dict(settings.label_map),
            "split_settings": dataclasses.asdict(split_settings),
        }

    @property
    def splits(self) -> set[str]:
        """Returns the names of the splits; validation and test are included even if empty."""
        optional = {"unsupervised"} if self.size("unsupervised") else set()
        return {"train", "validation", "test"} | optional

    def size(self, split: str) -> int:
        """Returns the number of examples in a split."""
        return len(self._positions[split])

    def class_counts(self, split: str) -> list[int]:
        """Returns the number of examples of each label in a split, ordered as `label_names`."""
        labels = self._rows.examples.labels[self._positions[split]]
        return np.bincount(labels, minlength=len(self.label_names)).tolist()

    def read(self, split: str) -> tf.data.Dataset:
        """Reads a split in the order of its rows; see `NamedDataset.read`."""
        signature = (tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64))
        return tf.data.Dataset.from_generator(
            lambda: self._batches(split), output_signature=signature
        )

    def texts_at(self, split: str, positions: np.ndarray) -> list[bytes]:
        """Returns the texts at positions <int64>[N] of a split, as the user wrote them."""
        return self._rows.examples[self._positions[split][positions]].texts()

    def log_findings(self) -> None:
        """Logs the splits, and warnings about rows and labels."""
        if isinstance(self.source, FileSource):
            self.source.log()
        log_findings(self.name, self._rows, self.label_names, self._splits)

    def _batches(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields texts <object>[N] and labels <int64>[N] of a split."""
        for batch in self._rows.examples[self._positions[split]].in_chunks(READ_BATCH):
            yield np.array(batch.texts(), object), batch.labels.astype(np.int64)


def _number_labels(
    rows: ParsedRows, label_map: Mapping[str, str], label_names: Sequence[str]
) -> ParsedRows:
    """Replaces labels by their positions in `label_names`; -1 stays."""
    found = [label_map.get(label, label) for label in rows.statistics["labels"]]
    numbers = np.array([*map(label_names.index, found), -1])
    labels = numbers[rows.examples.labels.astype(np.int64)].astype(rows.examples.labels.dtype)
    return dataclasses.replace(rows, examples=dataclasses.replace(rows.examples, labels=labels))
