"""Everything that resuming needs, and the model that was best on validation."""

from __future__ import annotations

import logging
from pathlib import Path

import keras
import tensorflow as tf

from pipeline.errors import Fault, Mistake
from trainer.metrics import Metrics

_log = logging.getLogger(__name__)

_KEPT = 3  # checkpoints to go back to when the newest is damaged


class TrainState:
    """All that a training run changes as it goes; what is not here is a function of the settings.

    Attributes:
        model: The model, built.
        optimizer: Its optimizer, built.
        step: Steps taken.
        epoch: Epochs that were trained, validated and recorded.
        best_loss: The lowest validation loss so far.
        best_epoch: The epoch that had it, counted from 1.
        stale_epochs: Epochs since then.
        seconds: Time spent in training and validation, over all processes of the run.
        window: Metrics since the last point of the curves.
        gradient_norm: Mean norm of the gradient over the same steps, before clipping.
        totals: Metrics since the start of the epoch.
    """

    def __init__(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer, *, fingerprint: str
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        with tf.device("CPU"):
            self.step = tf.Variable(0, dtype=tf.int64)
            self.epoch = tf.Variable(0, dtype=tf.int64)
            self.best_loss = tf.Variable(float("inf"), dtype=tf.float64)
            self.best_epoch = tf.Variable(0, dtype=tf.int64)
            self.stale_epochs = tf.Variable(0, dtype=tf.int64)
            self.seconds = tf.Variable(0.0, dtype=tf.float64)
            self.fingerprint = tf.Variable(fingerprint, dtype=tf.string)
        self.window = Metrics()
        self.gradient_norm = keras.metrics.Mean()
        self.totals = Metrics()

    def checkpoint(self) -> tf.train.Checkpoint:
        """Names all of it for tf.train."""
        return tf.train.Checkpoint(
            model=_values(self.model.variables),
            optimizer=_values(self.optimizer.variables),
            step=self.step,
            epoch=self.epoch,
            best_loss=self.best_loss,
            best_epoch=self.best_epoch,
            stale_epochs=self.stale_epochs,
            seconds=self.seconds,
            fingerprint=self.fingerprint,
            metrics=_values(
                self.window.variables + self.gradient_norm.variables + self.totals.variables
            ),
        )


class Checkpoints:
    """The newest few states of a run in `checkpoints/`, and its best model in `best/`."""

    def __init__(self, model_dir: Path, state: TrainState) -> None:
        self._state = state
        self._fingerprint = state.fingerprint.numpy()
        self._latest = tf.train.CheckpointManager(
            state.checkpoint(), str(model_dir / "checkpoints"), max_to_keep=_KEPT
        )
        self._best = tf.train.CheckpointManager(
            _best_checkpoint(state.model, state.fingerprint), str(model_dir / "best"), max_to_keep=1
        )

    def restore(self) -> bool:
        """Loads the newest state that can be read, if there are any, and says whether there were.

        Going back to an older one costs time and changes nothing: the steps since are taken again.

        Raises:
            Fault: There are checkpoints, and none can be read.
            Mistake: They belong to another vocabulary.
        """
        # The files, not the manager's list of them: a process may have been killed in between.
        folder = Path(self._latest.directory)
        paths = [path.with_suffix("") for path in folder.glob("ckpt-*.index")]
        paths = [path for path in paths if path.name[5:].isdigit()]
        for path in sorted(paths, key=lambda path: int(path.name[5:]), reverse=True):
            try:
                _restore(self._latest.checkpoint, str(path))
            except Fault as fault:
                _log.warning("%s; going back to the one before", fault)
                continue
            _check_fingerprint(self._state.fingerprint, self._fingerprint, str(path))
            return True
        if paths:
            raise Fault(
                f"none of the {len(paths)} checkpoints in {folder} can be read as this model's; "
                "put good copies there, or train anew in another --model_dir"
            )
        return False

    def save(self) -> None:
        """Saves the state as it is."""
        self._latest.save()

    def save_best(self) -> None:
        """Saves the model as the best so far."""
        self._best.save(checkpoint_number=self._state.step)


def restore_best(model_dir: Path, model: keras.Model, *, fingerprint: str) -> None:
    """Loads the weights with the lowest validation loss.

    Args:
        model_dir: The run's folder.
        model: The model, built.
        fingerprint: That of the vocabulary beside it.

    Raises:
        Mistake: The run has no such weights yet, or they belong to another vocabulary.
        Fault: They cannot be read.
    """
    best = tf.train.latest_checkpoint(str(model_dir / "best"))
    if best is None:
        raise Mistake(f"{model_dir} has no trained model yet: its first epoch has not ended")
    found = tf.Variable("", dtype=tf.string)
    _restore(_best_checkpoint(model, found), best)
    _check_fingerprint(found, fingerprint.encode(), best)


def _best_checkpoint(model: keras.Model, fingerprint: tf.Variable) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(model=_values(model.variables), fingerprint=fingerprint)


def _values(variables: list[keras.Variable]) -> list[tf.Variable]:
    """Returns what tf.train can save of Keras' variables.

    Given a Keras model itself, tf.train.Checkpoint leaves out, without a word, layers that stand
    in a list and the seeds of dropout; a metric it does not take at all. In order of creation the
    variables of a model have their places whatever its layers are called.
    """
    return [variable.value for variable in variables]


def _restore(checkpoint: tf.train.Checkpoint, path: str) -> None:
    try:
        status = checkpoint.restore(path)
        status.assert_existing_objects_matched()
        status.expect_partial()
    except tf.errors.ResourceExhaustedError:
        raise  # no memory: the file may be whole
    except (tf.errors.OpError, IndexError, AssertionError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise Fault(f"checkpoint {path} cannot be read: {reason}") from error


def _check_fingerprint(found: tf.Variable, expected: bytes, path: str) -> None:
    if found.numpy() != expected:
        raise Mistake(
            f"checkpoint {path} was trained with vocabulary {found.numpy().decode()[:12]}…, and "
            f"vocabulary.txt is {expected.decode()[:12]}…; put the right vocabulary.txt back"
        )
