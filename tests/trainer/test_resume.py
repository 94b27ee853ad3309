"""A resumed run has the same bits."""

import dataclasses
import shutil

import numpy as np
import pytest

from pipeline.errors import UserError
from tests.helpers import (
    StopAfterChecks,
    StopAfterEpoch,
    all_equal,
    assert_same_run,
    make_small_loop,
    read_curves,
    read_results,
    state_arrays,
)
from trainer.artifacts.checkpoints import restore_best
from trainer.monitoring.history import History
from trainer.objectives.classification import Classification
from trainer.run import train
from trainer.runtime.signals import Interrupted, use_stop

slow = pytest.mark.slow


def stop(config, splits, folder, checks):
    """Trains in the folder until a check for signals, one after each step; returns the state."""
    loop = make_small_loop(config, splits, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.loop._SECONDS_PER_CALL", 1e-9)
        with pytest.raises(Interrupted), use_stop(StopAfterChecks(checks)):
            loop.fit()
    return state_arrays(loop.state)


@pytest.fixture(scope="module")
def stopped(small_config, splits, tmp_path_factory):
    """The folder of a run that was stopped in its first epoch, and its state then."""
    folder = tmp_path_factory.mktemp("stopped")
    return folder, stop(small_config, splits, folder, 6)


def test_all_variables_are_restored(small_config, splits, tmp_path, stopped):
    folder, saved = stopped
    fresh = state_arrays(make_small_loop(small_config, splits, tmp_path / "another").state)
    # Most variables have changed, so the restored values are not the initial ones.
    moved = [not np.array_equal(*pair) for pair in zip(saved, fresh, strict=True)]
    assert sum(moved) > 0.6 * len(moved)
    assert all_equal(state_arrays(make_small_loop(small_config, splits, folder).state), saved)


@pytest.mark.parametrize(
    "checks",
    [pytest.param(0, marks=slow), 6, pytest.param(15, marks=slow), pytest.param(20, marks=slow)],
)
def test_a_resumed_run_has_the_same_bits(
    small_config, splits, tmp_path, uninterrupted, checks, stopped
):
    """Stopped in the first epoch, in its validation, or in the second epoch."""
    folder = tmp_path / "stopped"
    if checks == 6:
        shutil.copytree(stopped[0], folder)
    else:
        stop(small_config, splits, folder, checks)
    resumed = make_small_loop(small_config, splits, folder)
    assert int(resumed.state.step) > 0
    resumed.fit()
    assert all_equal(
        state_arrays(resumed.state),
        state_arrays(make_small_loop(small_config, splits, uninterrupted).state),
    )
    histories = [(f / "history.csv").read_text() for f in (folder, uninterrupted)]
    assert histories[0] == histories[1]


class Killed(BaseException):
    """Simulates kill -9: nothing that is written afterwards reaches the disk."""


@pytest.mark.parametrize(
    ("epoch", "moment"),
    [
        (1, "before"),
        pytest.param(1, "after", marks=slow),
        pytest.param(2, "before", marks=slow),
        pytest.param(2, "after", marks=slow),
    ],
)
def test_a_run_killed_between_checkpoint_and_history_has_the_same_bits(
    small_config, splits, tmp_path, uninterrupted, monkeypatch, epoch, moment
):
    """Right before or after an epoch's row is written; the epoch is not trained again."""
    append = History.append

    def killed(history, row):
        if row["epoch"] == epoch:
            if moment == "after":
                append(history, row)
            raise Killed
        append(history, row)

    with monkeypatch.context() as patch:
        patch.setattr(History, "append", killed)
        with pytest.raises(Killed):
            make_small_loop(small_config, splits, tmp_path).fit()
    resumed = make_small_loop(small_config, splits, tmp_path)
    assert int(resumed.state.epoch) == epoch
    resumed.fit()
    assert all_equal(
        state_arrays(resumed.state),
        state_arrays(make_small_loop(small_config, splits, uninterrupted).state),
    )
    histories = [(f / "history.csv").read_text() for f in (tmp_path, uninterrupted)]
    assert histories[0] == histories[1]
    assert read_curves(tmp_path) == read_curves(uninterrupted)
    assert not (tmp_path / "history_next.json").exists()


@pytest.mark.slow
def test_adding_epochs_gives_the_same_bits_as_training_them_at_once(small_config, splits, tmp_path):
    make_small_loop(small_config, splits, tmp_path / "two").fit()
    longer = dataclasses.replace(small_config, epochs=3)
    resumed = make_small_loop(longer, splits, tmp_path / "two")
    resumed.fit()
    at_once = make_small_loop(longer, splits, tmp_path / "three")
    at_once.fit()
    assert all_equal(state_arrays(resumed.state), state_arrays(at_once.state))


@pytest.mark.slow
def test_resuming_before_validation_shows_progress(small_config, splits, tmp_path, monkeypatch):
    """A progress line is due before this process has taken a step."""
    monkeypatch.setattr("trainer.monitoring.progress._SECONDS_BETWEEN_LINES", 0.01)
    config = dataclasses.replace(small_config, epochs=1)
    loop = make_small_loop(config, splits, tmp_path)
    with pytest.raises(Interrupted), use_stop(StopAfterEpoch(loop)):
        loop.fit()
    resumed = make_small_loop(config, splits, tmp_path)
    assert (int(resumed.state.step), int(resumed.state.epoch)) == (resumed._steps_per_epoch, 0)
    resumed.fit()
    assert resumed.is_finished()


@pytest.mark.slow
def test_a_larger_max_steps_gives_the_same_bits_as_at_once(small_config, tmp_path):
    """The first two values end an epoch early; 0 lifts the limit."""
    config = dataclasses.replace(small_config, encoder="pooled_lstm", max_steps=0)
    train(config, tmp_path / "at_once")
    for steps in (7, 30, 0):
        limited = dataclasses.replace(config, max_steps=steps)
        results = train(limited, tmp_path / "raised")
        assert results == train(limited, tmp_path / "raised")  # it is finished
        assert results["steps"] == (steps or read_results(tmp_path / "at_once")["steps"])
    assert_same_run(tmp_path / "raised", tmp_path / "at_once")
    for steps in (1, 20):
        with pytest.raises(UserError, match=rf"max_steps \(0, not {steps}\)"):
            train(dataclasses.replace(config, max_steps=steps), tmp_path / "raised")


def test_an_epoch_that_max_steps_ended_is_not_the_best_when_it_goes_on(
    small_config, splits, tmp_path, monkeypatch
):
    """Its model is deleted, although its validation loss was the lowest."""
    config = dataclasses.replace(small_config, encoder="pooled_lstm")
    steps = make_small_loop(config, splits, tmp_path / "none")._steps_per_epoch
    losses = {steps: 2.0, steps + 2: 1.0, 2 * steps: 3.0}

    def validate(objective, examples):
        metrics, logits, errors = validate_model(objective, examples)
        return metrics | {"loss": losses[int(loop.state.step)]}, logits, errors

    validate_model = Classification.validate
    monkeypatch.setattr(Classification, "validate", validate)
    for max_steps, best in ((steps + 2, 2), (0, 1)):
        limited = dataclasses.replace(config, max_steps=max_steps)
        loop = make_small_loop(limited, splits, tmp_path / "run")
        loop.fit()
        fingerprint = loop.state.fingerprint.numpy().decode()
        found = restore_best(tmp_path / "run", loop.state.model, fingerprint=fingerprint)
        assert found == (best, losses[steps if best == 1 else steps + 2])
