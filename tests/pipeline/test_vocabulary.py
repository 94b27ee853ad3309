"""Standardization, vocabulary and vectorizer."""

import collections
import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline import vocabulary
from pipeline.errors import RunError, UserError
from pipeline.text.standardization import standardize
from pipeline.vocabulary import OOV_ID, Vectorizer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A Great MOVIE.", "a great movie"),
        ("good<br />movie<br/><i>indeed</i>", "good movie indeed"),
        ("I <3 it, 2 < 3 > 1", "i 3 it 2 3 1"),
        ("Tom &amp; Jerry&nbsp;&quot;live&quot; &#8230;", "tom jerry live"),
        ("it's 'fine', don''t", "it's fine don t"),
        ("it\u2019s", "it's"),
        ("7/10 and/or /none/", "7/10 and/or none"),
        ("well-made,really", "well made really"),
        ("CAFÉ ÜBER", "café über"),
        ("wow\U0001f600\U0001f600!", "wow \U0001f600 \U0001f600"),
        ("a\u00a0b\u2028c\x85d\x00e", "a b c d e"),
        (b"\xff\xfebad\xc3", "bad"),
        ("cafe\u0301 CAFE\u0301 café", "café café café"),
        ("\u1112\u1161\u11ab\u1100\u116e\u11a8 영화", "한국 영화"),
        ("这部电影8/10\uff0c很好\uff01", "这 部 电 影 8/10 很 好"),
        ("ビールがうまい", "ビー ル が う ま い"),
        ("หนังดี", "ห นั ง ดี"),
        ("ກິນ ខ្មែរ မြန်", "ກິ ນ ខ្មែ រ မြ န်"),
        ("좋은 영화", "좋은 영화"),
        ("رائع جدًا", "رائع جدًا"),
        ("\u2764\ufe0f \u2764 \U0001f44d\U0001f3fd", "\u2764 \u2764 \U0001f44d"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468 \U0001f469"),
        ("\uff27\uff4f\uff4f\uff44\uff01", "good"),
        ("<br /><br />", ""),
        ("", ""),
        (" \t\r\n ", ""),
    ],
)
def test_standardize(text, expected):
    assert standardize(tf.constant([text])).numpy()[0].decode() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's GOOD!<br />8/10", "it's good ! 8/10"),
        ("well-made, (really)...", "well - made , ( really ) …"),
        ("what?! &quot;this&quot; * 7.5", 'what ? ! " this " * 7 . 5'),
        ("[a] {b} #c $d…", "a b c d …"),
        ("'quoted'.", "quoted ."),
    ],
)
def test_punctuation_can_be_kept(text, expected):
    standard = standardize(tf.constant([text]), punctuation="keep")
    assert standard.numpy()[0].decode() == expected


@pytest.mark.parametrize("punctuation", ["drop", "keep"])
def test_standardize_is_idempotent(data_dir, punctuation):
    from pipeline.named_dataset.dataset import open_dataset

    reviews = open_dataset("imdb_offline", data_dir=str(data_dir), download=False)
    for texts, _ in reviews.read("train"):
        once = standardize(texts, punctuation=punctuation)
        assert (standardize(once, punctuation=punctuation).numpy() == once.numpy()).all()


def test_the_vocabulary_equals_text_vectorization():
    """Including ties; the reference is the layer's adapt."""
    texts = [b"b a c a", b"a b", b"", b"d a b", b"caf\xc3\xa9 e"]
    layer = keras.layers.TextVectorization(max_tokens=7, standardize=None)
    layer.adapt(tf.constant(texts))
    counts = collections.Counter(b" ".join(texts).split())
    words = vocabulary.most_frequent_tokens(
        [*counts, b"unused"], np.array([*counts.values(), 0]), vocab_size=7
    )
    assert words == layer.get_vocabulary(include_special_tokens=False)
    assert words[:2] == ["a", "b"]
    assert len(words) == 5


def test_first_line_of_the_file_is_the_first_word_id(tmp_path):
    path = tmp_path / "vocabulary.txt"
    vocabulary.save(["good", "bad"], path)
    vectorizer = Vectorizer(path.read_text().split("\n")[:-1], sequence_length=9, truncate="head")
    assert vectorizer(tf.constant(["bad, GOOD unheard"])).to_list() == [
        [vocabulary.FIRST_TOKEN_ID + 1, vocabulary.FIRST_TOKEN_ID, OOV_ID]
    ]
    assert vectorizer.vocabulary_size == 4


@pytest.mark.parametrize(
    ("truncate", "expected"), [("head", [2, 3]), ("tail", [3, 4]), ("ends", [2, 4])]
)
def test_truncation_keeps_the_chosen_end(truncate, expected):
    vectorizer = Vectorizer(["a", "b", "c"], sequence_length=2, truncate=truncate)
    assert vectorizer(tf.constant(["a b c", "a"])).to_list() == [expected, [2]]


@pytest.mark.parametrize("text", ["", "   ", "<br />", "?!", b"\xff\xfe"])
def test_a_text_without_words_is_one_unknown_token(text):
    vectorizer = Vectorizer(["a"], sequence_length=5, truncate="tail")
    assert vectorizer(tf.constant([text, "a"])).to_list() == [[OOV_ID], [2]]


def test_file_and_fingerprint(tmp_path):
    words = ["the", "café", "\U0001f600", "it's"]
    path = tmp_path / "vocabulary.txt"
    vocabulary.save(words, path)
    assert vocabulary.load(path) == words
    assert vocabulary.fingerprint(words) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert vocabulary.fingerprint(words[::-1]) != vocabulary.fingerprint(words)


@pytest.mark.parametrize("content", [b"a\n\nb\n", b"\xff\n", b""])
def test_a_damaged_vocabulary_is_a_run_error(tmp_path, content):
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"vocabulary\.txt"):
        vocabulary.load(path)


def test_a_missing_vocabulary_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="is missing; restore it"):
        vocabulary.load(tmp_path / "vocabulary.txt")
