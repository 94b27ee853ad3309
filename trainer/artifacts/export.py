"""Exports the best model of a run as a SavedModel that takes texts."""

from __future__ import annotations

import contextlib
import errno
import re
from pathlib import Path

import tensorflow as tf

from model.labels import to_probabilities
from model.lstm import without_cudnn
from pipeline.errors import RunError, UserError
from pipeline.vocabulary import FIRST_TOKEN_ID, PADDING_ID
from trainer.artifacts.model_card import model_card
from trainer.artifacts.trained_run import TrainedRun, load, read_record
from trainer.runtime.files import translate_disk_full, unfinished_folder

_CARD = "model_card.md"
# Matches each path in an export.
_EXPORT_PATH = re.compile(
    rf"{re.escape(_CARD)}|(saved_model|fingerprint)\.pb|assets|variables"
    r"|variables/variables\.(index|data-\d{5}-of-\d{5})"
)
_ATTEMPTS = 10


def export(model_dir: Path, export_dir: Path) -> None:
    """Exports the best model of a run as a SavedModel, together with a model card.

    The SavedModel computes in float32 and runs on any device. Its signature `serving_default` takes
    texts <string>[B]. With two labels, it returns `probability` <float32>[B] of the second and
    `label` <string>[B]. With K > 2 labels, `probability` is that of `label`, and there are also
    `probabilities` <float32>[B, K] and the names `labels` <string>[B, K], repeated for each text,
    because TensorFlow Serving requires the same first dimension of all outputs.

    An earlier export in export_dir, which may be a link, is replaced completely or not at all.

    Raises:
        UserError: model_dir contains no trained run, or export_dir contains something other than
            an export.
        RunError: A file in model_dir is damaged, or the disk is full.
        OSError: export_dir cannot be written.
    """
    target = _resolve(export_dir)
    _check_replaceable(target, export_dir)
    record = read_record(model_dir)
    # The temporary folder goes into an existing folder, so that missing permissions fail early.
    sibling = target
    while not sibling.parent.exists():
        sibling = sibling.parent
    with unfinished_folder(target, beside=sibling) as folder, without_cudnn():
        uses_tensor_float_32 = tf.config.experimental.tensor_float_32_execution_enabled()
        try:
            # One branch, because the best number depends on the machine that uses the export.
            run = load(model_dir, precision="float32", branches=1)
        finally:  # `load` changes this setting of the process
            tf.config.experimental.enable_tensor_float_32_execution(uses_tensor_float_32)
        card = model_card(
            *(model_dir, record),
            best_epoch=run.best_epoch,
            value=run.best_value,
            tokens=run.tokenizer.vocabulary_size - FIRST_TOKEN_ID,
        )
        new = folder / "new"
        new.mkdir()
        with translate_disk_full("the model", target.parent):
            _write_saved_model(run, new)
            (new / _CARD).write_text(card, encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, new, export_dir)


def _resolve(export_dir: Path) -> Path:
    """Resolves links in a path, and refuses the current folder and its parents."""
    try:
        target = export_dir.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: up to Python 3.12
        raise UserError(f"--export_dir={export_dir} is a broken link; name a folder") from error
    if target.is_symlink():  # from Python 3.13 on, a link to itself
        raise UserError(f"--export_dir={export_dir} is a broken link; name a folder")
    current = Path.cwd()
    if target in (current, *current.parents):
        raise UserError(
            f"--export_dir={export_dir} is the current folder or a parent of it, and would be "
            "replaced; name another folder, such as export"
        )
    return target


def _check_replaceable(target: Path, export_dir: Path) -> None:
    """Checks that the export replaces nothing except an earlier export."""
    if not target.exists():
        return
    if not target.is_dir():
        raise UserError(f"--export_dir={export_dir} is a file; name a folder")
    names = {path.relative_to(target).as_posix() for path in target.rglob("*")}
    if not names:
        return
    is_export = {_CARD, "saved_model.pb"} <= names
    others = sorted(name for name in names if not _EXPORT_PATH.fullmatch(name))
    if not is_export or others:
        reason = f"{others[0]!r:.80}" if others else f"{_CARD} or the model is missing"
        raise UserError(
            f"--export_dir={export_dir} contains something other than an export ({reason}), "
            "and would be replaced; name another folder"
        )


def _replace(target: Path, new: Path, export_dir: Path) -> None:
    """Renames a new export to its target; replaces an export that another process wrote there."""
    for number in range(_ATTEMPTS):
        _check_replaceable(target, export_dir)
        old = new.with_name(f"old{number}")
        with contextlib.suppress(FileNotFoundError):
            target.rename(old)
        try:
            new.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                if old.exists():
                    old.rename(target)
                raise
        else:
            return
    raise RunError(f"other processes keep exporting to {export_dir}; name another folder")


def _write_saved_model(run: TrainedRun, folder: Path) -> None:
    label_names = tf.constant(run.label_names)

    def serve(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        token_ids = run.tokenizer(texts).to_tensor(PADDING_ID)
        probabilities = to_probabilities(run.evaluator.model(token_ids))
        best = tf.argmax(probabilities, axis=1)
        label = tf.gather(label_names, best)
        if len(run.label_names) == 2:
            return {"probability": probabilities[:, 1], "label": label}
        names = tf.broadcast_to(label_names, tf.shape(probabilities))
        probability = tf.reduce_max(probabilities, axis=1)
        shown = {"label": label, "probability": probability}
        return shown | {"probabilities": probabilities, "labels": names}

    # Not keras.export.ExportArchive, which stores each weight twice.
    module = tf.Module()
    module.weights = [variable.value for variable in run.evaluator.model.variables]
    module.tokenizer = run.tokenizer.trackable
    signature = [tf.TensorSpec([None], tf.string, name="texts")]
    module.serve = tf.function(serve, input_signature=signature)
    tf.saved_model.save(module, str(folder), {"serving_default": module.serve})
