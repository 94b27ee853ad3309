import dataclasses
import hashlib
import shutil
import signal

import numpy as np
import pytest

from pipeline.errors import RunError, UserError
from tests.test_end_to_end import scalars
from tests.test_trainer import data, trainer_of
from trainer.artifacts.checkpoints import restore_best
from trainer.artifacts.run_record import History
from trainer.artifacts.trained_run import load
from trainer.runtime.signals import Interrupted, StopSignals, use_stop

__all__ = ["data"]  # a fixture


class StopAfter(StopSignals):
    """A signal that comes when it was asked for so many times."""

    def __init__(self, checks):
        super().__init__()
        self.left = checks

    def check(self):
        self.left -= 1
        if self.left < 0:
            raise Interrupted(signal.SIGTERM)


def variables(state):
    kinds = (state.model, state.optimizer, state.window, state.totals, state.gradient_norm)
    keras_variables = [variable.value for kind in kinds for variable in kind.variables]
    counters = [state.step, state.epoch, state.best_loss, state.best_epoch, state.stale_epochs]
    return [variable.numpy() for variable in keras_variables + counters]


def same(ones, others):
    return all(np.array_equal(one, other) for one, other in zip(ones, others, strict=True))


def test_all_of_the_state_comes_back(small_config, data, tmp_path):
    trainer = trainer_of(small_config, data, tmp_path)
    with pytest.raises(Interrupted), use_stop(StopAfter(6)):
        trainer.fit(tmp_path)
    saved = variables(trainer.state)
    fresh = variables(trainer_of(small_config, data, tmp_path / "another").state)
    # Most variables have moved, so that they do not come back by chance.
    moved = [not np.array_equal(*pair) for pair in zip(saved, fresh, strict=True)]
    assert sum(moved) > 0.6 * len(moved)
    assert same(variables(trainer_of(small_config, data, tmp_path).state), saved)


@pytest.fixture(scope="module")
def whole(small_config, data, tmp_path_factory):
    """A run that was not stopped, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = trainer_of(small_config, data, folder)
    trainer.fit(folder)
    return trainer, folder


@pytest.mark.parametrize("checks", [0, 6, 15, 20])
def test_a_stopped_run_ends_in_the_bits_of_one_that_was_not(
    small_config, data, tmp_path, whole, checks, monkeypatch
):
    """Stops in the first epoch, in its validation, and in the second epoch."""
    trainer, whole_folder = whole
    folder = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr("trainer.loop._SECONDS_A_CALL", 1e-9)  # a check after each step
        with pytest.raises(Interrupted), use_stop(StopAfter(checks)):
            trainer_of(small_config, data, folder).fit(folder)
    resumed = trainer_of(small_config, data, folder)
    assert int(resumed.state.step) > 0
    resumed.fit(folder)
    assert same(variables(resumed.state), variables(trainer.state))
    histories = [(f / "history.csv").read_text() for f in (folder, whole_folder)]
    assert histories[0] == histories[1]


@pytest.mark.parametrize("checks", [6, 15])
def test_averages_and_accumulated_gradients_outlive_a_stop(
    small_config, data, tmp_path, checks, monkeypatch
):
    """And what is kept as the best model is the average, not the weights that training goes on."""
    config = dataclasses.replace(
        small_config, ema=0.8, gradient_accumulation=3, warmup_steps=9, weight_decay=0.01
    )
    whole = trainer_of(config, data, tmp_path / "whole")
    whole.fit(tmp_path / "whole")
    folder = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr("trainer.loop._SECONDS_A_CALL", 1e-9)  # a check after each step
        with pytest.raises(Interrupted), use_stop(StopAfter(checks)):
            trainer_of(config, data, folder).fit(folder)
    resumed = trainer_of(config, data, folder)
    resumed.fit(folder)
    assert same(variables(resumed.state), variables(whole.state))
    kept, going_on = trainer_of(config, data, tmp_path / "new").state.model, whole.state.model
    restore_best(tmp_path / "whole", kept, fingerprint=whole.state.fingerprint.numpy().decode())
    assert int(whole.state.best_epoch) == config.epochs
    for average, weight in zip(kept.trainable_variables, going_on.trainable_variables, strict=True):
        assert not (average.numpy() == weight.numpy()).all()
    whole.state.optimizer.finalize_variable_values(going_on.trainable_variables)
    for average, weight in zip(kept.trainable_variables, going_on.trainable_variables, strict=True):
        assert (average.numpy() == weight.numpy()).all()


class Killed(BaseException):
    """Stands for kill -9: nothing that is written afterwards reaches the disk."""


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_killed_between_a_checkpoint_and_history_loses_nothing(
    small_config, data, tmp_path, whole, monkeypatch, epoch, moment
):
    """Right before or after an epoch's row is written; the epoch is not trained again."""
    trainer, whole_folder = whole
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
            trainer_of(small_config, data, tmp_path).fit(tmp_path)
    resumed = trainer_of(small_config, data, tmp_path)
    assert int(resumed.state.epoch) == epoch
    resumed.fit(tmp_path)
    assert same(variables(resumed.state), variables(trainer.state))
    histories = [(f / "history.csv").read_text() for f in (tmp_path, whole_folder)]
    assert histories[0] == histories[1]
    assert curves_of(tmp_path) == curves_of(whole_folder)
    assert not (tmp_path / "history_next.json").exists()


def curves_of(folder):
    """The points of the curves, but of the speed."""
    found = [(name, scalars(folder / name).items()) for name in ("train", "validation")]
    return {(n, *key): value for n, items in found for key, value in items if "per_s" not in key[0]}


def test_more_epochs_go_on_from_the_last(small_config, data, tmp_path):
    trainer_of(small_config, data, tmp_path / "two").fit(tmp_path / "two")
    longer = dataclasses.replace(small_config, epochs=3)
    went_on = trainer_of(longer, data, tmp_path / "two")
    went_on.fit(tmp_path / "two")
    at_once = trainer_of(longer, data, tmp_path / "three")
    at_once.fit(tmp_path / "three")
    assert same(variables(went_on.state), variables(at_once.state))


def damage(path, how):
    if how == "deleted":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content[:1000] if how == "truncated" else content)


@pytest.mark.parametrize("how", ["truncated", "flipped", "deleted"])
def test_the_newest_whole_checkpoint_is_used(small_config, data, tmp_path, whole, how, caplog):
    """Older ones serve as well: the run ends in the same bits. None: it does not start anew."""
    folder = tmp_path / "run"
    shutil.copytree(whole[1], folder)
    files = sorted(
        folder.glob("checkpoints/*.data-*"), key=lambda file: int(file.name[5:].split(".")[0])
    )
    damage(files[-1], how)
    (folder / "checkpoints" / "checkpoint").unlink()
    trainer = trainer_of(small_config, data, folder)
    assert files[-1].name.split(".")[0] in caplog.text
    assert 0 < int(trainer.state.step) < int(whole[0].state.step)
    trainer.fit(folder)
    assert same(variables(trainer.state), variables(whole[0].state))
    assert (folder / "history.csv").read_text() == (whole[1] / "history.csv").read_text()

    for file in folder.glob("checkpoints/*.data-*"):
        damage(file, how)
    with pytest.raises(RunError, match=r"none of the \d checkpoints"):
        trainer_of(small_config, data, folder)


def test_a_resume_in_time_for_the_validation_shows_progress(
    small_config, data, tmp_path, monkeypatch
):
    """Off a terminal a line is due at once, when no step has been taken yet."""
    monkeypatch.setattr("trainer.monitoring.progress._SECONDS_BETWEEN_LINES", 0)
    with pytest.raises(Interrupted), use_stop(StopAfter(15)):
        trainer_of(small_config, data, tmp_path).fit(tmp_path)
    resumed = trainer_of(small_config, data, tmp_path)
    resumed.fit(tmp_path)
    assert resumed.is_finished()


def test_a_checkpoint_of_another_vocabulary_is_refused(trained, tmp_path):
    model_dir, _ = trained
    shutil.copytree(model_dir, tmp_path / "run")
    path = tmp_path / "run" / "vocabulary.txt"
    words = path.read_text().splitlines()
    path.write_text("\n".join([words[1], words[0], *words[2:]]) + "\n")
    with pytest.raises(UserError, match=r"not this run's vocabulary"):
        load(tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    old = hashlib.sha256((model_dir / "vocabulary.txt").read_bytes()).hexdigest()
    new = hashlib.sha256(path.read_bytes()).hexdigest()
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(UserError, match="was trained with vocabulary"):
        load(tmp_path / "run")
