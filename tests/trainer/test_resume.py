"""A resumed run has the same bits."""

import dataclasses
import shutil

import numpy as np
import pytest

from tests.helpers import (
    StopAfterChecks,
    StopAfterEpoch,
    all_equal,
    make_small_loop,
    read_curves,
    state_arrays,
)
from trainer.monitoring.history import History
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
