"""Steps and losses that are not finite, and collapse."""

import dataclasses
import logging
import math
import re

import numpy as np
import pytest
import tensorflow as tf

from pipeline.batches import training_batches
from pipeline.errors import RunError
from tests.helpers import StopAfterEpoch, make_small_loop
from trainer.runtime.signals import Interrupted, use_stop


@pytest.mark.slow
def test_overflowing_float16_steps_are_skipped_and_too_many_end_the_run(
    small_config, splits, tmp_path
):
    config = dataclasses.replace(small_config, precision="mixed_float16")
    loop = make_small_loop(config, splits, tmp_path)
    before = [variable.numpy() for variable in loop.state.model.trainable_variables]
    loop.state.optimizer.dynamic_scale.assign(float("inf"))
    with pytest.raises(
        RunError, match=r"overflows float16: all of the last 2\d steps .* were skipped"
    ):
        loop.fit()
    for variable, old in zip(loop.state.model.trainable_variables, before, strict=True):
        assert (variable.numpy() == old).all()


@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_many_nan_losses_in_a_row_end_the_run(small_config, splits, tmp_path, precision):
    config = dataclasses.replace(small_config, batch_size=8, precision=precision)
    loop = make_small_loop(config, splits, tmp_path)
    loop.state.model.neural_scorers[0].logit.bias.assign([float("nan")])
    message = r"the loss is nan: all of the last 2\d steps .* try learning_rate=0\.0005"
    with pytest.raises(RunError, match=message):
        loop.fit()
    assert not list((tmp_path / "best").glob("*.index"))


def test_only_steps_without_a_finite_gradient_are_skipped(
    small_config, splits, tmp_path, caplog, monkeypatch
):
    """The embedding of a rare token is NaN; batches without it are trained on."""
    monkeypatch.setattr(logging.getLogger("trainer"), "propagate", True)
    loop = make_small_loop(small_config, splits, tmp_path)
    state, table = loop.state, loop.state.model.neural_scorers[0].embedding.embeddings
    batches = training_batches(splits[1], batch_size=16, seed=0, epoch=0)
    ids = [set(np.unique(token_ids)) for token_ids, *_ in batches]
    rare = next(i for i in range(table.shape[0]) if 0 < sum(i in batch for batch in ids) < 4)
    lost = sum(rare in batch for batch in ids)
    table.assign(tf.tensor_scatter_nd_update(table.value, [[rare]], [[math.nan] * 8]))
    with pytest.raises(Interrupted), use_stop(StopAfterEpoch(loop)):
        loop.fit()
    assert int(state.optimizer.iterations) == len(ids) - lost
    assert int(state.step) == len(ids)
    weights = [variable.numpy() for variable in state.model.trainable_variables]
    assert np.isnan(weights[0]).sum() == 8
    assert all(np.isfinite(weight).all() for weight in weights[1:])
    assert math.isfinite(state.epoch_metrics.result()["loss"])
    skipped = re.findall(r"skipped (\d) steps up to step \d+", caplog.text)
    # Skipped steps of the last window are logged at the end of the epoch, which was not reached.
    assert sum(map(int, skipped)) + int(loop.train_step.skipped_since_report) == lost


@pytest.mark.slow
def test_a_collapse_is_warned_about_and_the_best_model_is_kept(
    small_config, splits, tmp_path, caplog, monkeypatch
):
    """The last epoch starts from a model with constant logits."""
    monkeypatch.setattr(logging.getLogger("trainer"), "propagate", True)
    _, train, _ = splits
    config = dataclasses.replace(small_config, dropout=0.0, learning_rate=0.02, epochs=3)
    loop = make_small_loop(config, (splits[0], train, train), tmp_path)
    loop.fit()
    assert "collapsed" not in caplog.text
    best = int(loop.state.best_epoch)
    longer = dataclasses.replace(config, epochs=4)
    loop = make_small_loop(longer, (splits[0], train, train), tmp_path)
    loop.state.model.neural_scorers[0].logit.kernel.assign(
        tf.zeros_like(loop.state.model.neural_scorers[0].logit.kernel)
    )
    loop.state.optimizer.learning_rate.assign(1e-9)
    loop.fit()
    assert "training has collapsed: validation accuracy fell from" in caplog.text
    assert f"The model of epoch {best} is still the best one" in caplog.text
    assert int(loop.state.best_epoch) == best


def test_a_nan_validation_loss_ends_the_run_and_is_not_recorded(small_config, splits, tmp_path):
    loop = make_small_loop(small_config, splits, tmp_path)
    with pytest.raises(RunError, match="the validation loss is nan at step 0"):
        loop._keep_best({"loss": float("nan")})
    assert not (tmp_path / "history.csv").exists()
