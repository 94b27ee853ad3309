"""The split of each row of a user's files: given, or cut off the train split by hashes of texts."""

from __future__ import annotations

import dataclasses

import numpy as np

from pipeline.datasets import HASH_BUCKETS
from pipeline.examples import Examples
from pipeline.file_dataset.parsed_rows import SPLIT_NAMES, ParsedRows

_TRAIN, _VALIDATION, _TEST, _UNSUPERVISED = range(len(SPLIT_NAMES))
_DROPPED = len(SPLIT_NAMES)


@dataclasses.dataclass(frozen=True)
class CutSettings:
    """How to cut the splits that the files do not have.

    Attributes:
        validation_fraction: Share of the train split that remains after the test cut.
        test_fraction: Share of the train split.
        drop_duplicates: Whether to drop train examples whose text is also in validation or test,
            and validation examples whose text is also in test.
    """

    validation_fraction: float
    test_fraction: float
    drop_duplicates: bool = False


@dataclasses.dataclass(frozen=True)
class Splits:
    """The splits of rows, and what was found while they were made.

    Attributes:
        numbers: <uint8>[N], an index into SPLIT_NAMES, or a larger number for a dropped row.
        cut: The splits that were cut off the train split.
        copies: Rows of one split whose text is in another too, by (split, other split).
        dropped: Labelled rows that were dropped as such copies.
        unlabelled_dropped: Unlabelled rows, dropped because validation or test has their text.
        contradictions: How many texts have rows with different labels.
    """

    numbers: np.ndarray
    cut: frozenset[str]
    copies: dict[tuple[str, str], int]
    dropped: int
    unlabelled_dropped: int
    contradictions: int

    def chosen(self, split: str) -> np.ndarray:
        """Returns the row numbers <int64>[N] of a split."""
        return np.flatnonzero(self.numbers == SPLIT_NAMES.index(split))


def make_splits(rows: ParsedRows, settings: CutSettings) -> Splits:
    """Assigns each row to a split.

    If no row is in the test split, a part of the train split becomes the test split; then the same
    for validation. All copies of a text are on one side of a cut. If a class has enough different
    texts, each side of a cut has at least one of them.
    """
    numbers, hashes = rows.splits.copy(), rows.hashes
    dropped = _drop_copies(numbers, hashes) if settings.drop_duplicates else 0
    missing = [number for number in (_TEST, _VALIDATION) if not (numbers == number).any()]
    for number in missing:
        keep = 1 + (number == _TEST and _VALIDATION in missing)  # validation and train need one
        is_train = numbers == _TRAIN
        # The two cuts use independent hashes: with one hash for both, the validation cut would take
        # rows from the range that the test cut has emptied. The validation cut uses the same hash
        # as for data sets that are opened by name.
        if number == _TEST:
            order, fraction = hashes[is_train] / 2.0**64, settings.test_fraction
        else:
            order = rows.examples.buckets[is_train] / HASH_BUCKETS
            fraction = round(settings.validation_fraction * HASH_BUCKETS) / HASH_BUCKETS
        labels = rows.examples.labels[is_train]
        is_cut = _cut(order, hashes[is_train], labels, fraction=fraction, keep=keep)
        numbers[np.flatnonzero(is_train)[is_cut]] = number
    evaluated = hashes[(numbers == _VALIDATION) | (numbers == _TEST)]
    leaked = (numbers == _UNSUPERVISED) & np.isin(hashes, evaluated)
    numbers[leaked] = _DROPPED
    return Splits(
        numbers,
        cut=frozenset(SPLIT_NAMES[number] for number in missing),
        copies=_count_copies(numbers, hashes),
        dropped=dropped,
        unlabelled_dropped=int(leaked.sum()),
        contradictions=_contradictions(hashes, rows.examples),
    )


def _cut(
    order: np.ndarray, hashes: np.ndarray, labels: np.ndarray, *, fraction: float, keep: int
) -> np.ndarray:
    """Says which rows are cut off, <bool>[N].

    Args:
        order: <float64>[N], from 0 to 1; rows below the fraction are cut off.
        hashes: <uint64>[N], of the texts.
        labels: <float32>[N].
        fraction: The share that is cut off.
        keep: How many different texts of each class must not be cut off, if there are enough.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order, labels = order[first], labels[first]
    is_cut = order < fraction
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        count = int(is_cut[of_class].sum())
        if len(of_class) <= keep or 1 <= count <= len(of_class) - keep:
            continue
        in_order = of_class[np.lexsort((unique[of_class], order[of_class]))]
        is_cut[of_class] = False
        is_cut[in_order[: min(max(count, 1), len(of_class) - keep)]] = True
    return is_cut[inverse]


def _drop_copies(numbers: np.ndarray, hashes: np.ndarray) -> int:
    """Drops train rows whose text validation or test has, and validation rows that test has."""
    test, validation = (hashes[numbers == number] for number in (_TEST, _VALIDATION))
    is_copy = (numbers == _VALIDATION) & np.isin(hashes, test)
    is_copy |= (numbers == _TRAIN) & np.isin(hashes, np.concatenate([test, validation]))
    numbers[is_copy] = _DROPPED
    return int(is_copy.sum())


def _count_copies(numbers: np.ndarray, hashes: np.ndarray) -> dict[tuple[str, str], int]:
    pairs = ((_TRAIN, _VALIDATION), (_TRAIN, _TEST), (_VALIDATION, _TEST))
    counts = {
        (SPLIT_NAMES[one], SPLIT_NAMES[other]): int(
            np.isin(hashes[numbers == one], hashes[numbers == other]).sum()
        )
        for one, other in pairs
    }
    return {pair: count for pair, count in counts.items() if count}


def _contradictions(hashes: np.ndarray, examples: Examples) -> int:
    counts = (examples.labels >= 0) & (examples.lengths > 0)  # an empty text says nothing
    hashes, labels = hashes[counts], examples.labels[counts]
    in_order = np.argsort(hashes, kind="stable")
    hashes, labels = hashes[in_order], labels[in_order]
    is_other = (hashes[1:] == hashes[:-1]) & (labels[1:] != labels[:-1])
    return len(np.unique(hashes[1:][is_other]))
