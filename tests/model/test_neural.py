"""NeuralScorer: windows of tokens, word dropout and the embedding's rate."""

import numpy as np
import pytest
import tensorflow as tf

from model.neural import window_of_tokens
from tests.helpers import make_classifier, random_token_ids


@pytest.mark.parametrize("longest", [1, 7, 40])
def test_the_last_tokens_are_taken(longest):
    token_ids = random_token_ids(20, 30)
    taken = window_of_tokens(token_ids.to_tensor(shape=[None, 32]), longest, tf.constant([1.0]))
    assert taken.shape == (20, min(longest, 32))
    for row, ours in zip(token_ids.to_list(), taken.numpy(), strict=True):
        assert ours.tolist()[: len(row)] == row[-longest:]
        assert not ours[len(row) :].any()


def test_a_window_starts_at_any_token():
    token_ids = tf.range(1, 41)[tf.newaxis]
    found = {
        int(window_of_tokens(token_ids, 37, tf.constant([place]))[0, 0])
        for place in np.linspace(0, 1, 100, dtype=np.float32)
    }
    assert found == {1, 2, 3, 4}


def test_training_reads_another_window_each_time():
    token_ids = random_token_ids(8, 40).to_tensor()
    (scorer,) = make_classifier("pooled_lstm", window=3).neural_scorers
    windows = [scorer.crop(token_ids, training=True).numpy() for _ in range(2)]
    assert windows[0].shape == (8, 3)
    assert (windows[0] != windows[1]).any()
    assert scorer.crop(token_ids, training=False).shape == token_ids.shape


def test_word_dropout_drops_whole_embeddings():
    (scorer,) = make_classifier("pooled_lstm", word_dropout=0.5).neural_scorers
    dropped = scorer.word_dropout(tf.ones([8, 50, 12]), training=True).numpy()
    assert (dropped == dropped[..., :1]).all()
    assert 0.3 < (dropped == 0).mean() < 0.7


@pytest.mark.parametrize("encoder", ["stacked_lstm", "pooled_lstm"])
def test_an_encoder_with_a_length_reads_only_the_last_tokens(encoder):
    whole, short = make_classifier(encoder), make_classifier(encoder, encoder_length=5)
    token_ids = tf.constant([[7, 8, 9, 1, 2, 3, 4, 5], [4, 5, 6, 7, 0, 0, 0, 0]])
    last = tf.constant([[1, 2, 3, 4, 5], [4, 5, 6, 7, 0]])
    np.testing.assert_allclose(short(token_ids), whole(last), atol=1e-6)


def test_embedding_rate_scales_the_updates_of_the_embedding():
    """A change of the stored table changes the embeddings `embedding_rate` times as much."""
    token_ids = random_token_ids(8, 20).to_tensor()
    slow, fast = make_classifier("pooled_lstm"), make_classifier("pooled_lstm", embedding_rate=5.0)
    for model, size in ((slow, 1.0), (fast, 0.2)):
        table = model.neural_scorers[0].embedding.embeddings
        table.assign(size * slow.neural_scorers[0].embedding.embeddings)
    np.testing.assert_allclose(fast(token_ids), slow(token_ids), atol=1e-6)
    for model in (slow, fast):
        model.neural_scorers[0].embedding.embeddings.assign_add(
            0.01 * tf.ones_like(model.neural_scorers[0].embedding.embeddings)
        )
    moved = make_classifier("pooled_lstm")
    moved.neural_scorers[0].embedding.embeddings.assign_add(
        0.05 * tf.ones_like(moved.neural_scorers[0].embedding.embeddings)
    )
    np.testing.assert_allclose(fast(token_ids), moved(token_ids), atol=1e-6)
