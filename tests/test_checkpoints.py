import dataclasses
import hashlib
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import Fault, Mistake
from tests.test_trainer import data, trainer_of
from trainer.run import load
from trainer.stopping import Stopped, StopSignals

__all__ = ["data"]  # a fixture


class StopAfter(StopSignals):
    """A signal that comes when it was asked for so many times."""

    def __init__(self, checks):
        super().__init__()
        self.left = checks

    def check(self):
        self.left -= 1
        if self.left < 0:
            raise Stopped(signal.SIGTERM)


def variables(state):
    kinds = (state.model, state.optimizer, state.window, state.totals, state.gradient_norm)
    keras_variables = [variable.value for kind in kinds for variable in kind.variables]
    counters = [state.step, state.epoch, state.best_loss, state.best_epoch, state.stale_epochs]
    return [variable.numpy() for variable in keras_variables + counters]


def same(ones, others):
    return all(np.array_equal(one, other) for one, other in zip(ones, others, strict=True))


def test_all_of_the_state_comes_back(small_config, data, tmp_path):
    trainer = trainer_of(small_config, data, tmp_path)
    with pytest.raises(Stopped):
        trainer.fit(tmp_path, stop=StopAfter(6))
    saved = variables(trainer.state)
    fresh = variables(trainer_of(small_config, data, tmp_path / "another").state)
    # Each kind of variable has moved, so that none comes back by chance.
    moved = [not np.array_equal(*pair) for pair in zip(saved, fresh, strict=True)]
    assert sum(moved) > 0.6 * len(moved)
    assert same(variables(trainer_of(small_config, data, tmp_path).state), saved)


@pytest.fixture(scope="module")
def whole(small_config, data, tmp_path_factory):
    """A run that was not stopped, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = trainer_of(small_config, data, folder)
    trainer.fit(folder, stop=StopSignals())
    return trainer, folder


@pytest.mark.parametrize("checks", [0, 6, 15, 20])
def test_a_stopped_run_ends_in_the_bits_of_one_that_was_not(
    small_config, data, tmp_path, whole, checks
):
    """Stops in the first epoch, in its validation, and in the second epoch."""
    trainer, whole_folder = whole
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped):
        trainer_of(small_config, data, folder).fit(folder, stop=StopAfter(checks))
    resumed = trainer_of(small_config, data, folder)
    assert int(resumed.state.step) > 0
    resumed.fit(folder, stop=StopSignals())
    assert same(variables(resumed.state), variables(trainer.state))
    histories = [(f / "history.csv").read_text() for f in (folder, whole_folder)]
    assert histories[0] == histories[1]


def test_more_epochs_go_on_from_the_last(small_config, data, tmp_path):
    trainer_of(small_config, data, tmp_path / "two").fit(tmp_path / "two", stop=StopSignals())
    longer = dataclasses.replace(small_config, epochs=3)
    went_on = trainer_of(longer, data, tmp_path / "two")
    went_on.fit(tmp_path / "two", stop=StopSignals())
    at_once = trainer_of(longer, data, tmp_path / "three")
    at_once.fit(tmp_path / "three", stop=StopSignals())
    assert same(variables(went_on.state), variables(at_once.state))


def test_a_damaged_checkpoint_is_a_fault(small_config, data, tmp_path):
    trainer_of(small_config, data, tmp_path).fit(tmp_path, stop=StopSignals())
    newest = tf.train.latest_checkpoint(str(tmp_path / "checkpoints"))
    data_file = Path(f"{newest}.data-00000-of-00001")
    data_file.write_bytes(data_file.read_bytes()[:1000])
    with pytest.raises(Fault, match="cannot be read"):
        trainer_of(small_config, data, tmp_path)
    (tmp_path / "checkpoints" / "checkpoint").unlink()
    with pytest.raises(Fault, match="names none"):
        trainer_of(small_config, data, tmp_path)


def test_a_checkpoint_of_another_vocabulary_is_refused(trained, tmp_path):
    model_dir, _ = trained
    shutil.copytree(model_dir, tmp_path / "run")
    path = tmp_path / "run" / "vocabulary.txt"
    words = path.read_text().splitlines()
    path.write_text("\n".join([words[1], words[0], *words[2:]]) + "\n")
    with pytest.raises(Mistake, match=r"not this run's vocabulary"):
        load(tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    old = hashlib.sha256((model_dir / "vocabulary.txt").read_bytes()).hexdigest()
    new = hashlib.sha256(path.read_bytes()).hexdigest()
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(Mistake, match="was trained with vocabulary"):
        load(tmp_path / "run")
