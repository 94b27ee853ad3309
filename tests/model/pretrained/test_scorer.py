"""The scorer with a pretrained encoder: pooling, cropping, contributions."""

import numpy as np
import pytest
import tensorflow as tf

from tests.pretrained_folder import POSITIONS, TOKENS, make_folder
from trainer.artifacts.pretrained import read_encoder_folder
from trainer.building import build_model
from trainer.config import TrainConfig

TOKEN_IDS = tf.constant([[2, 5, 12, 9, 14, 3, 0, 0], [2, 17, 18, 19, 20, 12, 24, 3]])


def make_model(folder, *, classes=2, **settings):
    """A built classifier with a pretrained encoder, whose logits are not small."""
    config = TrainConfig(pretrained=str(make_folder(folder)), **settings)
    encoder = read_encoder_folder(config.pretrained)
    policy = settings.get("precision", "float32")
    model = build_model(config, len(TOKENS), classes, policy, 1, encoder.architecture)
    encoder.assign_weights(model, config.pretrained)
    (scorer,) = model.neural_scorers
    scorer.logit.kernel.assign(np.random.default_rng(0).normal(size=scorer.logit.kernel.shape))
    return model


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_and_other_texts_change_no_logit(pooling, tmp_path):
    model = make_model(tmp_path, pooling=pooling)
    logits = model(TOKEN_IDS)
    alone = model(TOKEN_IDS[:1, :6])
    np.testing.assert_allclose(logits[:1], alone, atol=1e-5)
    assert np.abs(logits[0] - logits[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("truncate", "read"),
    [("head", [0, 1, 2, 3, 9]), ("tail", [0, 6, 7, 8, 9]), ("ends", [0, 1, 7, 8, 9])],
)
def test_a_long_text_is_cropped_between_its_first_and_last_token(truncate, read, tmp_path):
    model = make_model(tmp_path, encoder_length=5, truncate=truncate)
    token_ids = tf.constant([[2, *range(10, 18), 3], [2, 10, 11, 3, *[0] * 6]])
    cropped = model.neural_scorers[0].crop(token_ids)
    np.testing.assert_array_equal(cropped[0], tf.gather(token_ids[0], read))
    np.testing.assert_array_equal(cropped[1], [2, 10, 11, 3, 0])


def test_at_most_as_many_tokens_as_positions_are_read(tmp_path):
    model = make_model(tmp_path)
    long = tf.constant([[2, *[7] * 200, 3]])
    assert model.neural_scorers[0].crop(long).shape[1] == POSITIONS
    assert np.isfinite(model(long)).all()


@pytest.mark.parametrize("settings", [{}, {"encoder_length": 5, "truncate": "ends"}])
@pytest.mark.parametrize("classes", [2, 3])
def test_contributions_add_up_to_the_logit(classes, settings, tmp_path):
    model = make_model(tmp_path, classes=classes, **settings)
    direction = tf.constant([1.0] if classes == 2 else [1.0, -1.0, 0.0])
    for token_ids in (TOKEN_IDS[0, :6], TOKEN_IDS[1]):
        weights, baseline = model.contributions(token_ids, direction)
        logit = float(tf.tensordot(model(token_ids[tf.newaxis])[0], direction, axes=1))
        assert float(tf.reduce_sum(weights) + baseline) == pytest.approx(logit, abs=2e-2)
        assert weights[0] == weights[-1] == 0  # [CLS] and [SEP]
        assert np.abs(weights).max() > 0.01
    if settings:
        assert np.count_nonzero(weights) == settings["encoder_length"] - 2


def test_only_the_last_layers_are_trained(tmp_path):
    model = make_model(tmp_path, train_layers=1)
    names = {weight.path for weight in model.trainable_variables}
    assert names
    assert all("block_1" in name or "dense" in name for name in names)
    assert len(make_model(tmp_path, train_layers=-1).trainable_variables) > 2 * len(names)
    frozen = make_model(tmp_path, train_layers=0)
    assert not frozen.trainable_variables


def test_logits_are_float32_with_mixed_precision(tmp_path):
    model = make_model(tmp_path, precision="mixed_bfloat16")
    exact = make_model(tmp_path)(TOKEN_IDS)
    assert model(TOKEN_IDS).dtype == tf.float32
    np.testing.assert_allclose(model(TOKEN_IDS), exact, atol=0.2)
