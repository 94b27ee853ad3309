"""The order of labels, and labels that look alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.labels import lookalikes, order_labels


@pytest.mark.parametrize(
    ("labels", "ordered"),
    [
        (["+1", "-1"], ("-1", "+1")),
        (["10", "9"], ("9", "10")),
        (["1", "0"], ("0", "1")),
        (["1e1", "-2.5", "0"], ("-2.5", "0", "1e1")),
        (["pos", "neg"], ("neg", "pos")),
        (["Positive", "negative"], ("negative", "Positive")),
        (["nan", "1"], ("1", "nan")),
        (["1", "+1"], ("+1", "1")),
    ],
)
def test_numbers_sort_by_value_and_words_alphabetically(labels, ordered):
    assert order_labels(labels) == order_labels(labels[::-1]) == ordered


@given(st.sets(st.integers(-1000, 1000), min_size=2))
def test_any_numbers_sort_by_value(numbers):
    labels = [f"{number:+d}" for number in numbers]
    assert [int(label) for label in order_labels(labels)] == sorted(numbers)


def test_a_positive_label_is_the_last():
    assert order_labels(["ham", "spam"], positive="ham") == ("spam", "ham")
    with pytest.raises(UserError, match=r"--positive_label='eggs' .*'ham', 'spam'"):
        order_labels(["ham", "spam"], positive="eggs")


@pytest.mark.parametrize(
    "pair",
    [
        ("Pos", "pos"),
        ("thumbs up", "thumbsup"),
        ("caf\u00e9", "cafe\u0301"),
        ("\uff50os", "pos"),
        ("pos\u200b", "pos"),
        ("1", "1.0"),
        ("+1", "1"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_labels_that_look_alike_are_found(pair):
    assert lookalikes(pair) == [pair]


@pytest.mark.parametrize("pair", [("neg", "pos"), ("1", "-1"), ("nan", "inf"), ("good", "gut")])
def test_labels_that_do_not_look_alike_are_not(pair):
    assert not lookalikes(pair)
