"""Assigns each row of the user's files to a split, and makes the splits that the files lack."""

from __future__ import annotations

import dataclasses

import numpy as np

from pipeline.examples import Examples
from pipeline.file_dataset.parsed_rows import SPLIT_NAMES, ParsedRows
from pipeline.reading import HASH_BUCKETS

_TRAIN, _VALIDATION, _TEST, _UNSUPERVISED = range(len(SPLIT_NAMES))
_DROPPED = len(SPLIT_NAMES)


@dataclasses.dataclass(frozen=True)
class SplitSettings:
    """Settings for the splits that the files lack."""

    # Of the train split, after the test split was taken from it; 0: no validation split.
    validation_fraction: float
    test_fraction: float  # of the train split
    drop_duplicates: bool = False  # see `_drop_copies`
    # Whether nothing is trained on the rows: no split is taken from another, and without a test
    # split, the train split is the test split.
    is_test_data: bool = False


@dataclasses.dataclass(frozen=True)
class Splits:
    """The split of each row, and statistics for the log."""

    numbers: np.ndarray  # <uint8>[N], an index into SPLIT_NAMES; larger for a dropped row
    derived_splits: frozenset[str]  # the names of the splits that were taken from the train split
    copies: dict[tuple[str, str], int]  # rows of one split whose text is also in the other
    dropped: int  # labelled rows that `drop_duplicates` dropped
    unlabelled_dropped: int  # unlabelled rows whose text is in validation or test
    contradictions: int  # texts that have rows with different labels

    def positions(self, split: str) -> np.ndarray:
        """Returns the positions <int64>[N] of the rows of a split."""
        return np.flatnonzero(self.numbers == SPLIT_NAMES.index(split))


def make_splits(rows: ParsedRows, settings: SplitSettings) -> Splits:
    """Assigns each row to a split.

    If no row is in the test split, a fraction of the train split becomes the test split. The
    validation split is then made in the same way. All copies of a text get the same split. If a
    class has enough different texts, each split has at least one of them; a class with one text
    keeps it in train. A text with several labels counts for the first of them.
    """
    numbers, hashes = rows.splits.copy(), rows.hashes
    dropped = _drop_copies(numbers, hashes) if settings.drop_duplicates else 0
    missing = [number for number in (_TEST, _VALIDATION) if not (numbers == number).any()]
    if not settings.validation_fraction and _VALIDATION in missing:
        missing.remove(_VALIDATION)
    if settings.is_test_data:
        if _TEST in missing:
            numbers[numbers == _TRAIN] = _TEST
        missing = []
    derived_splits = frozenset(SPLIT_NAMES[number] for number in missing)
    take_from_train(derived_splits, numbers, hashes, rows.examples, settings)
    evaluated = hashes[(numbers == _VALIDATION) | (numbers == _TEST)]
    leaked = (numbers == _UNSUPERVISED) & np.isin(hashes, evaluated)
    numbers[leaked] = _DROPPED
    return Splits(
        numbers,
        derived_splits=derived_splits,
        copies=_count_copies(numbers, hashes),
        dropped=dropped,
        unlabelled_dropped=int(leaked.sum()),
        contradictions=_count_contradictions(hashes, rows.examples),
    )


def take_from_train(
    missing: frozenset[str],
    numbers: np.ndarray,
    hashes: np.ndarray,
    examples: Examples,
    settings: SplitSettings,
) -> None:
    """Moves train examples to the missing splits `test` and `validation`; see `make_splits`.

    Changes `numbers` <uint8>[N], the split of each example as an index into SPLIT_NAMES. The
    `hashes` <uint64>[N] are those of the texts.
    """
    for number in (_TEST, _VALIDATION):
        if SPLIT_NAMES[number] not in missing:
            continue
        is_train = numbers == _TRAIN
        # The two splits need independent hashes. With one hash, the rows of the validation range
        # would already be in the test split. Validation uses the hash of `in_validation`.
        if number == _TEST:
            ranks, fraction = hashes[is_train] / 2.0**64, settings.test_fraction
        else:
            ranks = examples.hash_buckets[is_train] / HASH_BUCKETS
            fraction = round(settings.validation_fraction * HASH_BUCKETS) / HASH_BUCKETS
        # A class keeps a text for train, and another for validation if that is made next.
        keep = 2 if number == _TEST and len(missing) == 2 else 1
        labels = examples.labels[is_train]
        is_moved = _choose(ranks, hashes[is_train], labels, fraction=fraction, keep=keep)
        numbers[np.flatnonzero(is_train)[is_moved]] = number


def _choose(
    ranks: np.ndarray, hashes: np.ndarray, labels: np.ndarray, *, fraction: float, keep: int
) -> np.ndarray:
    """Returns a mask <bool>[N] of the rows to move: those with a rank, 0 to 1, below the fraction.

    If a class has more than `keep` different texts, at least one of them is chosen, and `keep` are
    not. Otherwise, none is chosen.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    ranks, labels = ranks[first], labels[first]
    is_chosen = ranks < fraction
    for label in np.unique(labels):
        class_positions = np.flatnonzero(labels == label)
        count = int(is_chosen[class_positions].sum())
        if len(class_positions) <= keep:
            is_chosen[class_positions] = False
            continue
        if 1 <= count <= len(class_positions) - keep:
            continue
        by_rank = class_positions[np.lexsort((unique[class_positions], ranks[class_positions]))]
        is_chosen[class_positions] = False
        is_chosen[by_rank[: min(max(count, 1), len(class_positions) - keep)]] = True
    return is_chosen[inverse]


def _drop_copies(numbers: np.ndarray, hashes: np.ndarray) -> int:
    """Drops train rows with a text of validation or test, and validation rows with a text of test.

    Changes `numbers` <uint8>[N], and returns the number of dropped rows.
    """
    test, validation = (hashes[numbers == number] for number in (_TEST, _VALIDATION))
    is_copy = (numbers == _VALIDATION) & np.isin(hashes, test)
    is_copy |= (numbers == _TRAIN) & np.isin(hashes, np.concatenate([test, validation]))
    numbers[is_copy] = _DROPPED
    return int(is_copy.sum())


def _count_copies(numbers: np.ndarray, hashes: np.ndarray) -> dict[tuple[str, str], int]:
    """Counts the rows of one split whose text is also in another; see `Splits.copies`."""
    pairs = ((_TRAIN, _VALIDATION), (_TRAIN, _TEST), (_VALIDATION, _TEST))
    counts = {
        (SPLIT_NAMES[one], SPLIT_NAMES[other]): int(
            np.isin(hashes[numbers == one], hashes[numbers == other]).sum()
        )
        for one, other in pairs
    }
    return {pair: count for pair, count in counts.items() if count}


def _count_contradictions(hashes: np.ndarray, examples: Examples) -> int:
    """Counts the texts that have rows with different labels, without the empty text."""
    is_counted = (examples.labels >= 0) & (examples.lengths > 0)
    hashes, labels = hashes[is_counted], examples.labels[is_counted]
    by_hash = np.argsort(hashes, kind="stable")
    hashes, labels = hashes[by_hash], labels[by_hash]
    is_other = (hashes[1:] == hashes[:-1]) & (labels[1:] != labels[:-1])
    return len(np.unique(hashes[1:][is_other]))
