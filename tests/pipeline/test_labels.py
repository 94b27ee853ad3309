"""The order of labels, and labels that look alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.labels import lookalikes, order_labels, parse_label_map


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
    with pytest.raises(UserError, match=r"positive_label='eggs' .*'ham', 'spam'"):
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


def test_a_declared_order_is_kept_if_it_has_all_labels():
    assert order_labels(["b", "a"], declared=["b", "x", "a"]) == ("b", "a")
    assert order_labels(["b", "a"], declared=["b"]) == ("a", "b")


def test_a_positive_label_needs_two_labels():
    with pytest.raises(UserError, match=r"positive_label='a' is for two labels.* has 3"):
        order_labels(["a", "b", "c"], positive="a")


def test_lookalikes_of_many_labels_are_groups():
    labels = [f"Class {n}" for n in range(1000)] + ["class 7", "CLASS7", "\uff11", "1.0", "class 8"]
    assert lookalikes(labels) == [
        ("Class 7", "class 7", "CLASS7"),
        ("Class 8", "class 8"),
        ("\uff11", "1.0"),
    ]


def test_a_label_map_renames_and_merges():
    assert parse_label_map("") == {}
    assert parse_label_map("1:neg, 2 : so so,3:neg") == {"1": "neg", "2": "so so", "3": "neg"}
    assert parse_label_map(r"12\:30:a\,b") == {"12:30": "a,b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "'1' is not OLD:NEW; write pairs such as --label_map=1:neg"),
        ("1:", "'1:' is not OLD:NEW"),
        (":neg", "':neg' is not OLD:NEW"),
        (" :neg", "' :neg' is not OLD:NEW"),
        ("1:neg,", "'' is not OLD:NEW"),
        ("1:2:3", "'1:2:3' is not OLD:NEW"),
        ("1:neg,1:pos", "names '1' twice"),
        (" ", "' ' is not OLD:NEW"),
    ],
)
def test_an_invalid_label_map_is_a_user_error(text, message):
    with pytest.raises(UserError) as error:
        parse_label_map(text)
    assert message in error.value.message


NAMES = st.text(min_size=1).map(str.strip).filter(lambda name: name and not name.endswith("\\"))


@given(st.dictionaries(NAMES, NAMES))
def test_any_label_map_is_read_as_written(mapping):
    def escape(name):
        return name.replace(":", r"\:").replace(",", r"\,")

    pairs = [f"{escape(old)}:{escape(new)}" for old, new in mapping.items()]
    assert parse_label_map(",".join(pairs)) == mapping


@given(st.text())
def test_any_text_is_a_label_map_or_a_user_error(text):
    message = ""
    try:
        assert all(old and new for old, new in parse_label_map(text).items())
    except UserError as error:
        message = str(error)
    assert "\n" not in message
