"""Steps and losses that are not finite, and collapse."""

import dataclasses
import logging
import math
import re
import signal

import numpy as np
import pytest
import tensorflow as tf

from pipeline.batches import training_batches
from pipeline.errors import RunError
from tests.helpers import make_small_loop
from trainer.objectives.classification import Validation
from trainer.runtime.signals import Interrupted, StopSignals, use_stop


def test_overflowing_float16_steps_are_skipped_and_too_many_end_the_run(
    small_config, splits, tmp_path
):
    config = dataclasses.replace(small_config, precision="mixed_float16")
    trainer = make_small_loop(config, splits, tmp_path)
    before = [variable.numpy() for variable in trainer.state.model.trainable_variables]
    trainer.state.optimizer.dynamic_scale.assign(float("inf"))
    with pytest.raises(RunError, match=r"overflows float16: the last 2\d steps .* were skipped"):
        trainer.fit(tmp_path)
    for variable, old in zip(trainer.state.model.trainable_variables, before, strict=True):
        assert (variable.numpy() == old).all()


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_many_nan_losses_in_a_row_end_the_run(small_config, splits, tmp_path, precision):
    config = dataclasses.replace(small_config, batch_size=8, precision=precision)
    trainer = make_small_loop(config, splits, tmp_path)
    trainer.state.model.scorers[0].logit.bias.assign([float("nan")])
    told = r"the loss is nan: the last 2\d steps .* learning rate of 0\.005; try a tenth"
    with pytest.raises(RunError, match=told):
        trainer.fit(tmp_path)
    assert not list((tmp_path / "best").glob("*.index"))


def test_only_steps_without_a_finite_gradient_are_skipped(
    small_config, splits, tmp_path, caplog, monkeypatch
):
    """A word of few reviews has become NaN; the rest is trained as if those were not there."""
    monkeypatch.setattr(logging.getLogger("trainer"), "propagate", True)
    trainer = make_small_loop(small_config, splits, tmp_path)
    state, table = trainer.state, trainer.state.model.scorers[0].embedding.embeddings
    batches = training_batches(splits[1], batch_size=16, seed=0, epoch=0)
    ids = [set(np.unique(token_ids)) for token_ids, _ in batches]
    rare = next(i for i in range(table.shape[0]) if 0 < sum(i in batch for batch in ids) < 4)
    lost = sum(rare in batch for batch in ids)
    table.assign(tf.tensor_scatter_nd_update(table.value, [[rare]], [[math.nan] * 8]))
    with pytest.raises(Interrupted), use_stop(StopAfterEpoch(trainer)):
        trainer.fit(tmp_path)
    assert int(state.optimizer.iterations) == len(ids) - lost
    assert int(state.step) == len(ids)
    weights = [variable.numpy() for variable in state.model.trainable_variables]
    assert np.isnan(weights[0]).sum() == 8
    assert all(np.isfinite(weight).all() for weight in weights[1:])
    assert math.isfinite(state.totals.result()["loss"])
    told = re.findall(r"skipped (\d) steps before step \d+", caplog.text)
    # Those of the last window are told with the epoch's end, which was not reached.
    assert sum(map(int, told)) + int(trainer._step.lost_steps) == lost


class StopAfterEpoch(StopSignals):
    """A signal that comes when the first epoch is trained."""

    def __init__(self, trainer):
        super().__init__()
        self._trainer = trainer

    def check(self):
        if int(self._trainer.state.step) == self._trainer._steps_per_epoch:
            raise Interrupted(signal.SIGTERM)


def test_a_collapse_is_warned_about_and_the_best_model_is_kept(
    small_config, splits, tmp_path, caplog, monkeypatch
):
    """The second epoch starts from a model that answers the same to everything."""
    monkeypatch.setattr(logging.getLogger("trainer"), "propagate", True)
    _, train, _ = splits
    config = dataclasses.replace(small_config, dropout=0.0, learning_rate=0.02, epochs=3)
    trainer = make_small_loop(config, (splits[0], train, train), tmp_path)
    trainer.fit(tmp_path)
    assert "collapsed" not in caplog.text
    best = int(trainer.state.best_epoch)
    longer = dataclasses.replace(config, epochs=4)
    trainer = make_small_loop(longer, (splits[0], train, train), tmp_path)
    trainer.state.model.scorers[0].logit.kernel.assign(
        tf.zeros_like(trainer.state.model.scorers[0].logit.kernel)
    )
    trainer.state.optimizer.learning_rate.assign(1e-9)
    trainer.fit(tmp_path)
    assert "training has collapsed: validation accuracy fell from" in caplog.text
    assert f"The model of epoch {best} stays the best" in caplog.text
    assert int(trainer.state.best_epoch) == best


def test_a_nan_validation_loss_ends_the_run_and_is_not_recorded(small_config, splits, tmp_path):
    trainer = make_small_loop(small_config, splits, tmp_path)
    with pytest.raises(RunError, match="the validation loss is nan at step 0"):
        trainer._keep_best(Validation({"loss": float("nan")}, np.zeros(0), np.zeros(0, int)))
    assert not (tmp_path / "history.csv").exists()
