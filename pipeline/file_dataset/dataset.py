"""A user's own files as a data set: CSV, TSV or JSON Lines with a text and a label in each row."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.cache import Cache
from pipeline.datasets import READ_BATCH
from pipeline.errors import RunError, UserError, shown
from pipeline.file_dataset import parsed_rows as parsed
from pipeline.file_dataset.cuts import CutSettings, make_splits
from pipeline.file_dataset.parsed_rows import ParsedRows
from pipeline.file_dataset.rows import Columns, Row, read_rows
from pipeline.file_dataset.split_names import FileSplit, log_splits, split_of_file
from pipeline.files.file_format import AUTO, FileFormat
from pipeline.files.records import find_files, translate_read_errors
from pipeline.labels import lookalikes, order_labels

_log = logging.getLogger(__name__)

_SHOWN = 5  # labels that a message names
_HASHED_BYTES = 1 << 20  # read at once
_WithProgress = Callable[[Iterator[Row]], Iterator[Row]]


@dataclasses.dataclass(frozen=True)
class FileSettings:
    """How files are read.

    Attributes:
        columns: What the columns are called.
        skip_bad_rows: Whether to leave out, and count, rows that cannot be used.
        splits_from_names: Whether a word such as test in a file's name gives its split.
        positive_label: The label that becomes the second; empty: as `order_labels` sorts them.
        file_format: The format of the files.
    """

    columns: Columns
    skip_bad_rows: bool = False
    splits_from_names: bool = True
    positive_label: str = ""
    file_format: FileFormat = AUTO


class FileDataset:
    """Labelled examples in files, with the interface of `NamedDataset`.

    The files are parsed once, into an entry of the cache. If no row is in the test split, it is cut
    off the train split by a hash of the texts. The same then holds for the validation split: see
    `make_splits`.

    Args:
        name: A file, a folder or a pattern.
        settings: How the files are read.
        cuts: How to cut the splits that the files do not have.
        cache: Where the parsed rows are kept; None for this process alone.
        code: A hash of the code, which is a part of cache keys.
        label_names: The labels in the order of an existing run; None for the order of
            `order_labels`.
        with_progress: Wraps the rows while they are parsed.

    Attributes:
        name: As given.
        label_names: What labels 0 and 1 are called in the files.
        cut: The splits that were cut off the train split.
        fingerprint: A SHA-256 of all texts, labels and splits in their order.

    Raises:
        UserError: There is no such file, a row cannot be used, or there are not two labels.
        RunError: A file cannot be read.
    """

    def __init__(
        self,
        name: str,
        settings: FileSettings,
        cuts: CutSettings,
        *,
        cache: Cache | None = None,
        code: str = "",
        label_names: Sequence[str] | None = None,
        with_progress: _WithProgress | None = None,
    ) -> None:
        self.name = name
        self._settings = settings
        self._cuts = cuts
        self._code = code
        self._files = _find_splits(name, settings)
        before = _stats(self._files)
        self._contents = [_sha256(path) for path in self._files]
        self._rows = self._parsed(cache or Cache(None), with_progress, before)
        self._refuse_bad_rows()
        self._refuse_no_rows()
        self._refuse_empty_texts()
        self.label_names = self._order_labels(label_names)
        self._made = make_splits(self._rows, cuts)
        self.cut = self._made.cut
        self.fingerprint = str(self._rows.about["sha256"])
        self._chosen = {split: self._made.chosen(split) for split in parsed.SPLIT_NAMES}
        if not len(self._chosen["train"]):
            raise UserError(self._no_train_split())

    @property
    def identity(self) -> dict[str, object]:
        """What identifies these examples: the content of the files, and how it is read."""
        return {
            **self._parsed_key(),
            "labels": self.label_names,
            "cuts": dataclasses.asdict(self._cuts),
        }

    @property
    def splits(self) -> set[str]:
        """Names its splits, always with train, validation and test, which may be empty."""
        optional = {"unsupervised"} if self.size("unsupervised") else set()
        return {"train", "validation", "test"} | optional

    def size(self, split: str) -> int:
        """Returns how many examples a split has."""
        return len(self._chosen[split])

    def class_counts(self, split: str) -> list[int]:
        """Returns how many examples of each label a split has, in the order of `label_names`."""
        labels = self._labels(self._chosen[split])
        return [int((labels == number).sum()) for number in range(len(self.label_names))]

    def read(self, split: str) -> tf.data.Dataset:
        """Reads one split as it streams by; see `NamedDataset.read`."""
        signature = (tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64))
        return tf.data.Dataset.from_generator(
            lambda: self._batches(split), output_signature=signature
        )

    def texts_at(self, split: str, places: np.ndarray) -> list[bytes]:
        """Reads the texts at places <int64>[N] of a split, as they are in the files."""
        return self._rows.examples[self._chosen[split][places]].texts()

    def log_findings(self) -> None:
        """Logs what the user should know about the files before training on them."""
        about, made = self._rows.about, self._made
        if not self._settings.columns.split and (len(self._files) > 1 or self._is_named()):
            log_splits(self._files)
        for split in sorted(made.cut):
            _log.info("%s: the %s split is cut off the train split", self.name, split)
        if about["split_columns"]:
            column = about["split_columns"][0]
            _log.warning(
                "%s has a column %s with names of splits, which is not used; to use it: "
                "--split_column=%s",
                self.name,
                shown(column),
                column,
            )
        if about["empty"]:
            total = len(self._rows.splits)
            _log.warning("%s: %d of %d texts are empty", self.name, about["empty"], total)
        if about["spaced"]:
            _log.info("%s: ignored spaces around the label of %d rows", self.name, about["spaced"])
        for one, other in lookalikes(self.label_names):
            _log.warning(
                "%s: the labels %s and %s look alike, but are two labels; if they mean the same, "
                "write them the same way",
                self.name,
                shown(one),
                shown(other),
            )
        self._log_copies()

    def _log_copies(self) -> None:
        made = self._made
        if made.dropped:
            _log.info("%s: --drop_duplicates left out %d examples", self.name, made.dropped)
        if made.unlabelled_dropped:
            _log.info(
                "%s: left out %d unlabelled examples whose texts are in validation or test",
                self.name,
                made.unlabelled_dropped,
            )
        if made.copies:
            counts = (f"{n} of {one} in {other}" for (one, other), n in made.copies.items())
            _log.warning(
                "%s: texts are in two splits, which makes results look too good: %s; "
                "--drop_duplicates leaves them out of the first split",
                self.name,
                ", ".join(counts),
            )
        if made.contradictions:
            _log.warning(
                "%s: rows with the same text have different labels, for %d texts",
                self.name,
                made.contradictions,
            )

    def _parsed_key(self) -> dict[str, object]:
        # The names of the files matter only for the splits that they give: data that was copied,
        # moved or touched is the same.
        splits = [found.split for found in self._files.values()]
        return {
            "files": list(map(list, zip(self._contents, splits, strict=True))),
            "columns": dataclasses.astuple(self._settings.columns),
            "format": dataclasses.astuple(self._settings.file_format),
            "code": self._code,
        }

    def _parsed(
        self, cache: Cache, with_progress: _WithProgress | None, before: list[tuple[int, int]]
    ) -> ParsedRows:
        splits_of = {path: found.split for path, found in self._files.items()}

        def make(folder: Path) -> None:
            rows = read_rows(splits_of, self._settings.columns, self._settings.file_format)
            parsed.write_rows(folder, with_progress(rows) if with_progress else rows)
            if _stats(self._files) != before:
                raise RunError(f"{self.name} changed while it was read; type the command again")

        return cache.get("rows", self._parsed_key(), make=make, read=parsed.read_rows)

    def _refuse_bad_rows(self) -> None:
        about = self._rows.about
        count = about["faults"]
        if not count:
            return
        first = about["first_faults"]
        listed = "; ".join(f"{self._place(*place)}: {fault}" for *place, fault in first)
        listed += "; …" if count > len(first) else ""
        if not self._settings.skip_bad_rows:
            raise UserError(
                f"{count} of {count + len(self._rows.splits)} rows of {self.name} cannot be used: "
                f"{listed}; correct them, or leave them out: --skip_bad_rows"
            )
        _log.warning("left out %d rows of %s: %s", count, self.name, listed)

    def _refuse_no_rows(self) -> None:
        if len(self._rows.splits):
            return
        if self._rows.about["faults"]:
            raise UserError(
                f"{self.name}: --skip_bad_rows leaves out all rows; are --text_column="
                f"{self._settings.columns.text} and --label_column={self._settings.columns.label} "
                "right?"
            )
        raise UserError(f"{self.name} has no rows; give files with a text and a label in each row")

    def _refuse_empty_texts(self) -> None:
        count = len(self._rows.splits)
        if count and self._rows.about["empty"] == count:
            column = shown(self._settings.columns.text)
            raise UserError(
                f"no text of {self.name} has a word: all {count} are empty in the column {column}; "
                "is --text_column right?"
            )

    def _order_labels(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """Returns the labels in the order of their numbers, 0 and 1."""
        places = {name: place for name, *place in self._rows.about["labels"]}
        if wanted is not None and set(places) != set(wanted):
            raise UserError(
                f"{self.name} has the labels {_listed(sorted(places))}, but the run was trained on "
                f"{_listed(sorted(wanted))}; rename the labels, or train another run on them: "
                "--model_dir=FOLDER"
            )
        if len(places) != 2:
            found = [f"{shown(n)} ({self._place(*p)})" for n, p in list(places.items())[:_SHOWN]]
            alike = lookalikes(list(places)[:_SHOWN])
            hint = f"; {shown(alike[0][0])} and {shown(alike[0][1])} look alike" if alike else ""
            raise UserError(
                f"{self.name} has {len(places)} different labels, not two: {', '.join(found)}"
                f"{', …' if len(places) > _SHOWN else ''}{hint}; is --label_column right?"
            )
        return (
            order_labels(places, positive=self._settings.positive_label)
            if wanted is None
            else tuple(wanted)
        )

    def _no_train_split(self) -> str:
        sizes = {split: len(rows) for split, rows in self._chosen.items() if len(rows)}
        if (self._rows.splits == parsed.SPLIT_NAMES.index("train")).any() and self.cut:
            return (
                f"{self.name} has too few different texts to cut off "
                f"{' and '.join(sorted(self.cut))}: {sizes}, and none is left to train on; give "
                "more texts, or files for these splits"
            )
        by_names = self._is_named() and not self._settings.columns.split
        hint = "; --splits_from_names=false ignores the names of files" if by_names else ""
        dropped = " (--drop_duplicates dropped others)" if self._made.dropped else ""
        return f"{self.name} has no row to train on, but {sizes}{dropped}{hint}"

    def _is_named(self) -> bool:
        return any(found.split != "train" for found in self._files.values())

    def _place(self, file: int, line: int) -> str:
        return f"{list(self._files)[file]}:{line}"

    def _labels(self, chosen: np.ndarray) -> np.ndarray:
        """Returns the labels of rows as numbers in the order of `label_names`, -1 for none."""
        numbers = {name: number for number, name in enumerate(self.label_names)}
        order = [numbers[name] for name, *_ in self._rows.about["labels"]]
        stored = self._rows.examples.labels[chosen].astype(np.int64)
        return np.array([*order, -1])[stored]

    def _batches(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        chosen = self._chosen[split]
        for start in range(0, len(chosen), READ_BATCH):
            part = chosen[start : start + READ_BATCH]
            texts = np.array(self._rows.examples[part].texts(), object)
            yield texts, self._labels(part)


def _find_splits(name: str, settings: FileSettings) -> dict[Path, FileSplit]:
    """Finds the files that a name stands for, and the split that each one's name gives."""
    paths = find_files(name)
    root = Path(os.path.commonpath([path.parent for path in paths]))
    if settings.splits_from_names:
        return {path: split_of_file(path, root) for path in paths}
    return {path: FileSplit("train", "--splits_from_names=false") for path in paths}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with translate_read_errors(path), path.open("rb") as file:
        while part := file.read(_HASHED_BYTES):
            digest.update(part)
    return digest.hexdigest()


def _stats(paths: Iterable[Path]) -> list[tuple[int, int]]:
    return [(stat.st_size, stat.st_mtime_ns) for stat in (path.stat() for path in paths)]


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(map(shown, labels[:_SHOWN])) + (", …" if len(labels) > _SHOWN else "")
