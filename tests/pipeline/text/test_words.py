"""Numbers of words, and looking up words instead of texts."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.bert_standardization import BertStandardization
from pipeline.text.wordpiece import WordPiece, WordPieceSettings
from pipeline.text.words import WordNumbers, split_words
from pipeline.vocabulary import Vectorizer

TEXTS = st.lists(st.text(max_size=20) | st.sampled_from(["a b a", "ab ba", ""]), max_size=6)
VECTORIZER = Vectorizer(["a", "b", "ab"], sequence_length=4, truncate="ends", punctuation="keep")
WORD_PIECE = WordPiece(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##a", "##b", "!"],
    WordPieceSettings(BertStandardization(True, True, True)),
    sequence_length=6,
    truncate="tail",
)


@given(st.lists(TEXTS, max_size=3))
def test_numbers_give_back_the_words_of_each_text(chunks):
    numbering = WordNumbers()
    found, expected = [], []
    for chunk in chunks:
        standard = VECTORIZER.standardization(tf.constant(chunk, tf.string))
        distinct, positions, lengths = (values.numpy() for values in split_words(standard))
        numbers = numbering.number(distinct)[positions]
        found += np.split(numbers, np.cumsum(lengths))[:-1]
        expected += [text.split() for text in standard.numpy()]
    words = list(numbering.words())
    assert [[words[number] for number in text] for text in found] == expected
    assert len(set(words)) == len(words)
    firsts = [number for text in found for number in text]
    assert list(dict.fromkeys(firsts)) == list(range(len(words)))  # in the order of occurrence


@pytest.mark.parametrize("tokenizer", [VECTORIZER, WORD_PIECE], ids=["words", "pieces"])
@given(texts=TEXTS)
def test_the_ids_of_a_text_are_those_of_its_words(tokenizer, texts):
    standard = tokenizer.standardization(tf.constant(texts, tf.string))
    distinct, positions, lengths = split_words(standard)
    words = tf.RaggedTensor.from_row_lengths(
        tf.gather(tokenizer.look_up(distinct), positions), lengths
    )
    completed = tokenizer.complete(words.merge_dims(1, 2))
    assert completed.to_list() == tokenizer(tf.constant(texts, tf.string)).to_list()
