"""Unicode normalization equals Python's unicodedata."""

import unicodedata

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.text.normalization import may_change, normalize
from pipeline.text.standardization import standardize

EUROPEAN = "".join(map(chr, [*range(0x41, 0x5B), *range(0x61, 0x7B), *range(0xC0, 0x250)]))
GREEK_AND_CYRILLIC = "".join(map(chr, [*range(0x370, 0x530), *range(0x1F00, 0x2000)]))
VIETNAMESE = "aăâeêioôơuưyđAĂÂEÊIOÔƠUƯYĐ\u0300\u0301\u0303\u0309\u0323\u0302\u0306\u031b"
KOREAN = "".join(map(chr, [*range(0x1100, 0x1200), 0xAC00, 0xAC01, 0xAC1C, 0xD788, 0xD7A3]))
MARKS = "".join(map(chr, [*range(0x300, 0x34F), *range(0x350, 0x370), 0x1DC5, 0x20D0, 0x3099]))
OTHERS = " .\u0e39\u0e49\u0649\u0653\u0928\u093c\u212b\u30ab\u30cf\uf900\U0001f600\U0001d15e"
LETTERS = EUROPEAN + GREEK_AND_CYRILLIC + VIETNAMESE + KOREAN + OTHERS
texts_with_marks = st.lists(
    st.text(st.sampled_from(LETTERS) | st.sampled_from(MARKS), max_size=20), max_size=8
)


def normalized(texts):
    texts = tf.constant(texts, tf.string)
    return [text.decode() for text in normalize(texts, may_change(texts)).numpy()]


@given(texts_with_marks)
def test_normalize_is_nfc(texts):
    """In one batch, so that texts cannot affect each other."""
    assert normalized(texts) == [unicodedata.normalize("NFC", text) for text in texts]


def test_normalize_is_nfc_of_each_character_with_each_mark():
    characters = [
        chr(code)
        for code in range(0x30000)
        if unicodedata.decomposition(chr(code)) and normalized_by_itself(code)
    ]
    for form in ("NFC", "NFD"):
        for mark in ("", "\u0301", "\u0323\u0301", "\u0301\u0323", "\u0345", "\u11a8"):
            texts = [unicodedata.normalize(form, text) + mark for text in characters]
            assert normalized(texts) == [unicodedata.normalize("NFC", text) for text in texts]


def normalized_by_itself(code):
    return not 0xFF00 <= code < 0xFFF0  # width forms have one spelling


def test_width_forms_and_invisible_characters_are_normalized():
    texts = ["\uff27\uff52\uff45\uff41\uff54\uff01 \uff18/\uff11\uff10", "\uff76\uff9e\uff70"]
    assert normalized(texts) == ["Great! 8/10", "ガー"]
    assert normalized(["won\u00adder\u200dful\ufeff", "\u2764\ufe0f", "a\u200bb"]) == [
        "wonderful",
        "\u2764",
        "a\u200bb",
    ]


@given(texts_with_marks, st.sampled_from(["drop", "keep"]))
@settings(max_examples=20)
def test_all_spellings_are_standardized_alike(texts, punctuation):
    forms = [
        standardize(
            tf.constant([unicodedata.normalize(form, text) for text in texts], tf.string),
            punctuation=punctuation,
        )
        for form in ("NFC", "NFD")
    ]
    once = standardize(tf.constant(texts, tf.string), punctuation=punctuation)
    for other in (*forms, standardize(once, punctuation=punctuation)):
        np.testing.assert_array_equal(once, other)


def test_capitals_whose_lower_case_composes():
    assert standardize(tf.constant("J\u030c \u03aa\u0301")).numpy().decode() == "\u01f0 \u0390"


def test_any_shape_and_a_saved_model(tmp_path):
    """A saved graph keeps its tables."""
    module = tf.Module()
    signature = [tf.TensorSpec([None, None], tf.string)]
    module.standardize = tf.function(standardize, input_signature=signature)
    texts = [["cafe\u0301", "caf\u00e9"], ["\u1112\u1161\u11ab", "\u4f60好"], ["", "plain"]]
    tf.saved_model.save(module, str(tmp_path))
    saved = tf.saved_model.load(str(tmp_path)).standardize(tf.constant(texts)).numpy()
    expected = [["café", "café"], ["한", "你 好"], ["", "plain"]]
    assert [[text.decode() for text in row] for row in saved] == expected
    assert standardize(tf.constant("cafe\u0301")).numpy().decode() == "café"


def test_many_marks_on_one_letter_take_linear_time():
    """20,000 marks in the worst order; quadratic time would be minutes."""
    text = "a" + "\u0301\u0323" * 10_000
    assert normalized([text]) == [unicodedata.normalize("NFC", text)]
