"""Checkpoints of a run: the state to resume from, and the best model."""

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

_MAX_TO_KEEP = 3  # checkpoints; if the newest is damaged, an older one is used


class Checkpoints:
    """Saves and restores the newest states in `checkpoints/` and the best models in `best/`.

    TensorFlow's list of checkpoints, the file `checkpoint`, is not trusted: it may be out of date
    after a kill, damaged, or refer to other folders. It is rewritten from the existing files before
    TensorFlow reads it. Unfinished files of a killed process are deleted, so this process must hold
    the lock of the run.
    """

    def __init__(self, model_dir: Path, state: TrainState) -> None:
        self._state = state
        self._fingerprint = state.fingerprint.numpy()  # restore() overwrites state.fingerprint
        best = _best_checkpoint(state.model, state.fingerprint, state.best_epoch, state.best_loss)
        self._latest = _make_manager(state.checkpoint(), model_dir / "checkpoints")
        self._best = _make_manager(best, model_dir / "best")

    def restore(self) -> bool:
        """Restores the newest readable state, and returns whether there was a checkpoint.

        Falling back to an older state costs time, but the repeated steps have the same results.

        Raises:
            RunError: There are checkpoints, but none can be read; or there are none, although the
                run has results; or the best model is missing.
            UserError: The checkpoint belongs to another vocabulary.
        """
        path = _restore_newest(self._latest.checkpoint, Path(self._latest.directory))
        if path is None:
            self._check_is_new()
            return False
        _check_fingerprint(self._state.fingerprint, self._fingerprint, path)
        if int(self._state.best_epoch) and not _list_checkpoints(Path(self._best.directory)):
            raise _missing_best_error(Path(self._best.directory).parent)
        return True

    def restore_before(self, step: int) -> None:
        """Restores the newest state before a step; deletes later states and best models.

        Raises:
            RunError: There is none, or it cannot be read.
        """
        latest, best = Path(self._latest.directory), Path(self._best.directory)
        later = [path for path in _list_checkpoints(best) if int(path.name[5:]) >= step]
        for path in _list_checkpoints(latest):
            _restore(self._latest.checkpoint, path)
            if int(self._state.step) < step:
                break
            later.append(path)
        else:
            raise RunError(f"{latest} has no state before step {step}; name another --model_dir")
        for path in later:  # the index first: without it, the rest is an incomplete checkpoint
            for file in sorted(path.parent.glob(f"{path.name}.*"), reverse=True):
                file.unlink()

    def _check_is_new(self) -> None:
        """Checks that a run without checkpoints has nothing that a new start would replace."""
        model_dir = Path(self._latest.directory).parent
        for pattern in ("history.csv", "results.json", "best/ckpt-*.index"):
            for path in model_dir.glob(pattern):
                raise RunError(
                    f"{model_dir} has {path.relative_to(model_dir)} but no checkpoints to resume "
                    "from; restore them, or start a new run in another --model_dir"
                )

    def save(self) -> None:
        """Saves the state; raises a RunError if the disk is full."""
        with translate_disk_full("a checkpoint", Path(self._latest.directory)):
            self._latest.save()

    def save_best(self) -> None:
        """Saves the model as the best one so far; raises a RunError if the disk is full."""
        with translate_disk_full("the best model", Path(self._best.directory)):
            self._best.save(checkpoint_number=self._state.step)


def restore_best(model_dir: Path, model: keras.Model, *, fingerprint: str) -> tuple[int, float]:
    """Restores the weights with the lowest validation loss to a built model.

    Returns:
        The epoch of these weights, counted from 1, and their validation loss.

    Raises:
        UserError: No epoch has ended yet, or the weights belong to another vocabulary.
        RunError: The weights are missing or cannot be read.
    """
    found, epoch, loss = (tf.Variable(value) for value in ("", np.int64(0), np.float64(0)))
    path = _restore_newest(_best_checkpoint(model, found, epoch, loss), model_dir / "best")
    if path is None:
        if any((model_dir / name).exists() for name in ("history.csv", "results.json")):
            raise _missing_best_error(model_dir)
        raise UserError(
            f"{model_dir} has no trained model yet, because its first epoch has not ended"
        )
    _check_fingerprint(found, fingerprint.encode(), path)
    return int(epoch), float(loss)


def _missing_best_error(model_dir: Path) -> RunError:
    return RunError(
        f"the best model is missing from {model_dir / 'best'}; restore it, or train again in "
        "another --model_dir"
    )


def _best_checkpoint(
    model: keras.Model, fingerprint: tf.Variable, epoch: tf.Variable, loss: tf.Variable
) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(
        model=values_of(model.variables), fingerprint=fingerprint, epoch=epoch, loss=loss
    )


def _make_manager(checkpoint: tf.train.Checkpoint, folder: Path) -> tf.train.CheckpointManager:
    """Deletes incomplete checkpoints, rewrites the list, and opens a CheckpointManager."""
    _remove_unfinished(folder)
    _rewrite_checkpoint_list(folder)
    return tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=_MAX_TO_KEEP)


def _list_checkpoints(folder: Path) -> list[Path]:
    """Lists the complete checkpoints in a folder, newest first."""
    # TensorFlow writes the index file last.
    paths = [path.with_suffix("") for path in folder.glob("ckpt-*.index")]
    paths = [path for path in paths if path.name[5:].isdigit()]
    return sorted(paths, key=lambda path: int(path.name[5:]), reverse=True)


def _remove_unfinished(folder: Path) -> None:
    """Deletes incomplete checkpoints that a killed process left behind."""
    names = {path.name for path in _list_checkpoints(folder)}
    for path in folder.glob("ckpt-*"):
        if not _is_checkpoint_file(path):
            continue
        if path.name.split(".")[0] in names and "tempstate" not in path.name:
            continue
        _log.info("%s is an incomplete checkpoint of a killed process; deleted", path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in folder.glob("checkpoint.tmp*"):  # TensorFlow's list, while it is being written
        if re.fullmatch(r"checkpoint\.tmp[0-9a-f]{32}", path.name):
            path.unlink()
    remove_unfinished(folder)


def _is_checkpoint_file(path: Path) -> bool:
    """Returns whether a path has a name and content of TensorFlow's checkpoint files or folders."""
    if path.is_dir():
        names = [file.name for file in path.iterdir()]
        is_unfinished = re.fullmatch(r"ckpt-\d+_temp", path.name) and not path.is_symlink()
        return bool(is_unfinished) and all(name.startswith("part-") for name in names)
    return bool(re.fullmatch(r"ckpt-\d+\.(index|data-\d{5}-of-\d{5})(\.tempstate\d+)?", path.name))


def _rewrite_checkpoint_list(folder: Path) -> None:
    paths = _list_checkpoints(folder)[::-1]
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
    """Restores the newest readable checkpoint and returns its path; None if there is none."""
    paths = _list_checkpoints(folder)
    for path in paths:
        try:
            _restore(checkpoint, path)
        except RunError as error:
            _log.warning("%s", error)
        else:
            return path
    if paths:
        raise RunError(
            f"none of the {len(paths)} checkpoints in {folder} can be restored to this model; put "
            "good copies there, or start a new run in another --model_dir"
        )
    return None


def _restore(checkpoint: tf.train.Checkpoint, path: Path) -> None:
    try:
        status = checkpoint.restore(str(path))
        status.assert_existing_objects_matched()
        status.expect_partial()
    except tf.errors.ResourceExhaustedError:
        raise  # too little memory: the file may be intact
    except (tf.errors.OpError, IndexError, AssertionError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise RunError(f"checkpoint {path} cannot be read: {reason}") from error


def _check_fingerprint(found: tf.Variable, expected: bytes, path: Path) -> None:
    if found.numpy() != expected:
        raise UserError(
            f"checkpoint {path} was trained with vocabulary {found.numpy().decode()[:12]}…, and "
            f"vocabulary.txt is {expected.decode()[:12]}…; restore the right vocabulary.txt"
        )
