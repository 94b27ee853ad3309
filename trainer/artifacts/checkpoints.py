"""Everything that resuming needs, and the model that was best on validation."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipeline.errors import RunError, UserError
from trainer.artifacts.state import TrainState, values_of
from trainer.runtime.files import remove_unfinished, replacing, translate_disk_full

_log = logging.getLogger(__name__)

_KEPT = 3  # checkpoints, to go back to when the newest is damaged


class Checkpoints:
    """The newest few states of a run in `checkpoints/`, and its best models in `best/`.

    What the folders hold is told by the files in them alone. TensorFlow's list of them, the file
    `checkpoint`, may be behind them after a kill, damaged, or a stranger's, with paths to anywhere:
    it is written anew before TensorFlow reads it, and what a killed process left half is removed.

    Args:
        model_dir: The run's folder, held by this process.
        state: The run's state.
    """

    def __init__(self, model_dir: Path, state: TrainState) -> None:
        self._state = state
        self._fingerprint = state.fingerprint.numpy()
        best = _best_checkpoint(state.model, state.fingerprint, state.best_epoch, state.best_loss)
        self._latest = _manager(state.checkpoint(), model_dir / "checkpoints")
        self._best = _manager(best, model_dir / "best")

    def restore(self) -> bool:
        """Loads the newest state that can be read, if there are any, and says whether there were.

        Going back to an older one costs time and changes nothing: the steps since are taken again.

        Raises:
            RunError: There are checkpoints, and none can be read.
            UserError: They belong to another vocabulary.
        """
        path = _restore_newest(self._latest.checkpoint, Path(self._latest.directory))
        if path is not None:
            _check_fingerprint(self._state.fingerprint, self._fingerprint, path)
        return path is not None

    def save(self) -> None:
        """Saves the state as it is.

        Raises:
            RunError: It cannot be written.
        """
        with translate_disk_full("a checkpoint", Path(self._latest.directory)):
            self._latest.save()

    def save_best(self) -> None:
        """Saves the model as the best so far.

        Raises:
            RunError: It cannot be written.
        """
        with translate_disk_full("the best model", Path(self._best.directory)):
            self._best.save(checkpoint_number=self._state.step)


def restore_best(model_dir: Path, model: keras.Model, *, fingerprint: str) -> tuple[int, float]:
    """Loads the weights with the lowest validation loss.

    Args:
        model_dir: The run's folder.
        model: The model, built.
        fingerprint: That of the vocabulary beside it.

    Returns:
        The epoch that they are of, and their validation loss.

    Raises:
        UserError: The run has no such weights yet, or they belong to another vocabulary.
        RunError: They cannot be read.
    """
    found, epoch, loss = (tf.Variable(value) for value in ("", np.int64(0), np.float64(0)))
    path = _restore_newest(_best_checkpoint(model, found, epoch, loss), model_dir / "best")
    if path is None:
        raise UserError(f"{model_dir} has no trained model yet: its first epoch has not ended")
    _check_fingerprint(found, fingerprint.encode(), path)
    return int(epoch), float(loss)


def _best_checkpoint(
    model: keras.Model, fingerprint: tf.Variable, epoch: tf.Variable, loss: tf.Variable
) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(
        model=values_of(model.variables), fingerprint=fingerprint, epoch=epoch, loss=loss
    )


def _manager(checkpoint: tf.train.Checkpoint, folder: Path) -> tf.train.CheckpointManager:
    _remove_unfinished(folder)
    _rewrite_checkpoint_list(folder)
    return tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=_KEPT)


def _newest_first(folder: Path) -> list[Path]:
    """Lists the checkpoints in a folder; TensorFlow writes a checkpoint's index last."""
    paths = [path.with_suffix("") for path in folder.glob("ckpt-*.index")]
    paths = [path for path in paths if path.name[5:].isdigit()]
    return sorted(paths, key=lambda path: int(path.name[5:]), reverse=True)


def _remove_unfinished(folder: Path) -> None:
    """Removes what belongs to no checkpoint: a process was killed while it wrote or deleted."""
    names = {path.name for path in _newest_first(folder)}
    for path in folder.glob("ckpt-*"):
        if not _is_checkpoint_file(path):
            continue
        if path.name.split(".")[0] in names and "tempstate" not in path.name:
            continue
        _log.info("%s belongs to no checkpoint, its process was killed; removed", path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    remove_unfinished(folder)


def _is_checkpoint_file(path: Path) -> bool:
    """Says whether a path is named like a part of a TensorFlow checkpoint, unlike a copy."""
    if path.is_dir():
        parts = [part.name for part in path.iterdir()]
        is_unfinished = re.fullmatch(r"ckpt-\d+_temp", path.name) and not path.is_symlink()
        return bool(is_unfinished) and all(name.startswith("part-") for name in parts)
    return bool(re.fullmatch(r"ckpt-\d+\.(index|data-\d{5}-of-\d{5})(\.tempstate\d+)?", path.name))


def _rewrite_checkpoint_list(folder: Path) -> None:
    """Writes TensorFlow's list of the checkpoints by the files that are there."""
    paths = _newest_first(folder)[::-1]
    if not paths:
        (folder / "checkpoint").unlink(missing_ok=True)
        return
    lines = [f'model_checkpoint_path: "{paths[-1].name}"']
    for path in paths:
        written_at = path.with_suffix(".index").stat().st_mtime
        lines += [f'all_model_checkpoint_paths: "{path.name}"']
        lines += [f"all_model_checkpoint_timestamps: {written_at}"]
    with replacing(folder / "checkpoint") as new:
        new.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _restore_newest(checkpoint: tf.train.Checkpoint, folder: Path) -> Path | None:
    """Loads the newest checkpoint that can be read, and returns its path; None: there is none."""
    paths = _newest_first(folder)
    for path in paths:
        try:
            _restore(checkpoint, path)
        except RunError as fault:
            _log.warning("%s; going back to the one before", fault)
        else:
            return path
    if paths:
        raise RunError(
            f"none of the {len(paths)} checkpoints in {folder} can be read as this model's; "
            "put good copies there, or train anew in another --model_dir"
        )
    return None


def _restore(checkpoint: tf.train.Checkpoint, path: Path) -> None:
    try:
        status = checkpoint.restore(str(path))
        status.assert_existing_objects_matched()
        status.expect_partial()
    except tf.errors.ResourceExhaustedError:
        raise  # no memory: the file may be whole
    except (tf.errors.OpError, IndexError, AssertionError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise RunError(f"checkpoint {path} cannot be read: {reason}") from error


def _check_fingerprint(found: tf.Variable, expected: bytes, path: Path) -> None:
    if found.numpy() != expected:
        raise UserError(
            f"checkpoint {path} was trained with vocabulary {found.numpy().decode()[:12]}…, and "
            f"vocabulary.txt is {expected.decode()[:12]}…; put the right vocabulary.txt back"
        )
