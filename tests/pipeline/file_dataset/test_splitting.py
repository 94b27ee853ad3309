"""Splits cut from files: their size, copies of texts, and every class in every split."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.examples import Examples
from pipeline.file_dataset.parsed_rows import ParsedRows
from pipeline.file_dataset.splitting import SplitSettings, make_splits
from pipeline.reading import hash_buckets

TRAIN, VALIDATION, TEST, UNSUPERVISED = range(4)


def rows_of(texts, labels, splits=None):
    """Rows without texts, because cuts read only hashes."""
    data = [text.encode() for text in texts]
    hashes = [hashlib.blake2b(text, digest_size=8).digest() for text in data]
    count = len(texts)
    examples = Examples(
        np.empty(0, np.uint8),
        np.zeros(count, np.int64),
        np.array([len(text) for text in data], np.int32),
        np.array(labels, np.float32),
        hash_buckets(np.array(data, object)).numpy().astype(np.uint16),
    )
    splits = np.zeros(count, np.uint8) if splits is None else np.array(splits, np.uint8)
    return ParsedRows(
        examples, splits, np.array([int.from_bytes(h, "little") for h in hashes], np.uint64), {}
    )


def many(count=4000):
    return rows_of([f"text {number}" for number in range(count)], [n % 2 for n in range(count)])


@pytest.mark.parametrize("test", [0.1, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("validation", [0.1, 0.2, 0.5, 0.8])
def test_validation_is_a_fraction_of_what_test_leaves(validation, test):
    """One hash for both cuts would give 0.25 for 0.2 and 0.2, and nothing for 0.5 and 0.5."""
    numbers = make_splits(many(), SplitSettings(validation, test)).numbers
    of_test, of_validation = (numbers == TEST).sum(), (numbers == VALIDATION).sum()
    assert of_test / 4000 == pytest.approx(test, abs=0.03)
    assert of_validation / (4000 - of_test) == pytest.approx(validation, abs=0.06)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=1, max_size=40),
    st.sampled_from([0.001, 0.2, 0.5, 0.9]),
    st.sampled_from([0.001, 0.2, 0.5, 0.9]),
)
def test_small_files_have_each_class_in_each_split_and_copies_in_one(rows, validation, test):
    texts = [f"{number} of class {label}" for number, label in rows]
    labels = [label for _, label in rows]
    made = make_splits(rows_of(texts, labels), SplitSettings(validation, test))
    again = make_splits(rows_of(texts, labels), SplitSettings(validation, test))
    assert (made.numbers == again.numbers).all()
    sides = {}
    for text, number in zip(texts, made.numbers.tolist(), strict=True):
        assert sides.setdefault(text, number) == number
    for label in (0, 1):
        different = {text for text, of in zip(texts, labels, strict=True) if of == label}
        found = {sides[text] for text in different}
        if len(different) >= 3:
            assert found == {TRAIN, VALIDATION, TEST}
        assert not found or TRAIN in found


def test_rows_keep_their_split_when_others_are_added():
    """The cut depends on the text, not on its position."""
    texts = [f"text {number}" for number in range(1000)]
    settings = SplitSettings(0.2, 0.2)
    before = make_splits(rows_of(texts, [n % 2 for n in range(1000)]), settings).numbers
    after = make_splits(rows_of(texts[:500], [n % 2 for n in range(500)]), settings).numbers
    assert (before[:500] == after).all()


def test_given_splits_stay_and_their_unlabelled_copies_are_dropped():
    texts = ["a", "b", "v", "t", "v", "t", *(f"other {n}" for n in range(200))]
    labels = [0, 1, 0, 1, *[-1] * 202]
    splits = [TRAIN, TRAIN, VALIDATION, TEST, *[UNSUPERVISED] * 202]
    made = make_splits(rows_of(texts, labels, splits), SplitSettings(0.2, 0.2))
    assert made.numbers[:4].tolist() == splits[:4]
    # Only the two copies are dropped, no other rows.
    assert made.positions("unsupervised").tolist() == list(range(6, 206))
    assert (made.unlabelled_dropped, made.derived_splits) == (2, frozenset())


def test_unlabelled_copies_of_held_out_texts_are_dropped():
    texts = [f"text {number}" for number in range(200)] * 2
    rows = rows_of(
        texts, [n % 2 for n in range(200)] + [-1] * 200, [TRAIN] * 200 + [UNSUPERVISED] * 200
    )
    made = make_splits(rows, SplitSettings(0.2, 0.2))
    is_train = made.numbers[:200] == TRAIN
    assert ((made.numbers[200:] == UNSUPERVISED) == is_train).all()


@pytest.mark.parametrize("drop", [False, True])
def test_copies_in_two_splits_are_counted_or_dropped_from_the_first(drop):
    texts = ["a", "b", "c", "x", "y", "x", "y", "z", "z"]
    labels = [0, 1, 0, 0, 1, 0, 1, 0, 0]
    splits = [TRAIN] * 5 + [TEST, VALIDATION, VALIDATION, TEST]
    made = make_splits(
        rows_of(texts, labels, splits), SplitSettings(0.2, 0.2, drop_duplicates=drop)
    )
    if drop:
        assert made.positions("train").tolist() == [0, 1, 2]
        assert made.positions("validation").tolist() == [6]
        assert (made.dropped, made.copies) == (3, {})
    else:
        assert made.numbers.tolist() == splits
        pairs = {("train", "test"): 1, ("train", "validation"): 1, ("validation", "test"): 1}
        assert (made.dropped, made.copies) == (0, pairs)


def test_texts_with_different_labels_are_counted():
    texts, labels = ["a", "b", "a", "b", "c", "a", "", ""], [0, 1, 1, 1, 0, 0, 0, 1]
    assert make_splits(rows_of(texts, labels), SplitSettings(0.2, 0.2)).contradictions == 1
