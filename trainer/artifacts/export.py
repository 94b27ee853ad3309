"""Exports a trained run as a SavedModel that takes texts."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf

from model.lstm import without_cudnn
from pipeline.errors import RunError, UserError
from pipeline.vocabulary import PADDING_ID
from trainer.artifacts.model_card import model_card
from trainer.artifacts.trained_run import TrainedRun, load, read_record
from trainer.runtime.files import translate_disk_full, unfinished_folder

_CARD = "model_card.md"
# All paths in an export.
_OF_AN_EXPORT = re.compile(
    rf"{re.escape(_CARD)}|(saved_model|fingerprint)\.pb|assets|variables"
    r"|variables/variables\.(index|data-\d{5}-of-\d{5})"
)
_ATTEMPTS = 10


def export(model_dir: Path, export_dir: Path) -> None:
    """Writes the best model of a run, with its model card; it computes in float32 on any device.

    The signature `serving_default` takes texts <string>[B] and returns `probability` <float32>[B]
    and `label` <string>[B].

    Args:
        model_dir: The run's folder.
        export_dir: Where they go; an earlier export that is there is replaced, whole or not at all.
            If it is a link to a folder, they go into that folder.

    Raises:
        UserError: There is no trained run in model_dir, or export_dir holds something else.
        RunError: Something there is damaged, or the disk is full.
        OSError: export_dir cannot be written.
    """
    target = _resolved(export_dir)
    _check_replaceable(target, export_dir)
    record = read_record(model_dir)
    # In a folder that exists, so that missing permissions are found before the work.
    highest = target
    while not highest.parent.exists():
        highest = highest.parent
    with unfinished_folder(target, beside=highest) as folder:
        # One branch: the best number depends on the machine that uses the export.
        with _same_tensor_float_32():
            run = load(model_dir, precision="float32", branches=1)
        card = model_card(model_dir, record, best_epoch=run.best_epoch, loss=run.validation_loss)
        new = folder / "new"
        new.mkdir()
        with translate_disk_full("the model", target.parent):
            _write_saved_model(run, new)
            (new / _CARD).write_text(card, encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, new, export_dir)


@contextlib.contextmanager
def _same_tensor_float_32() -> Iterator[None]:
    """Restores the setting of TensorFloat-32, which loading a run changes."""
    was_enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(was_enabled)


def _resolved(export_dir: Path) -> Path:
    try:
        target = export_dir.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: up to Python 3.12
        raise UserError(
            f"--export_dir={export_dir} is a link that leads nowhere; name a folder"
        ) from error
    if target.is_symlink():  # from Python 3.13 on, a link to itself
        raise UserError(f"--export_dir={export_dir} is a link that leads nowhere; name a folder")
    here = Path.cwd()
    if target in (here, *here.parents):
        raise UserError(
            f"--export_dir={export_dir} is the current folder, or one above it, and would be "
            "replaced; name another, such as export"
        )
    return target


def _check_replaceable(target: Path, export_dir: Path) -> None:
    """Checks that nothing but an export is replaced.

    Raises:
        UserError: Something else would be.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise UserError(f"--export_dir={export_dir} is a file; name a folder")
    names = {path.relative_to(target).as_posix() for path in target.rglob("*")}
    if not names:
        return
    is_export = {_CARD, "saved_model.pb"} <= names
    others = sorted(name for name in names if not _OF_AN_EXPORT.fullmatch(name))
    if not is_export or others:
        what = f"{others[0]!r:.80}" if others else f"it lacks {_CARD} or a model"
        raise UserError(
            f"--export_dir={export_dir} holds something other than an export ({what}), "
            "and would be replaced; name another folder"
        )


def _replace(target: Path, new: Path, export_dir: Path) -> None:
    """Renames a new export to its target, and replaces an export that is there by then."""
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
    run.vectorizer(tf.constant([""]))  # builds its layer, as track wants it
    archive = keras.export.ExportArchive()
    archive.track(run.evaluator.model)
    archive.track(run.vectorizer.layer)
    archive.add_endpoint(
        name="serving_default",
        fn=_scorer(run),
        input_signature=[tf.TensorSpec([None], tf.string, name="texts")],
    )
    archive.write_out(str(folder), verbose=False)


def _scorer(run: TrainedRun):  # noqa: ANN202 a function of tensors
    label_names = tf.constant(run.label_names)

    def score(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        token_ids = run.vectorizer(texts).to_tensor(PADDING_ID)
        with without_cudnn():
            logits = run.evaluator.model(token_ids, training=False)
        probabilities = tf.sigmoid(logits)
        is_second = tf.cast(probabilities > 0.5, tf.int32)
        return {"probability": probabilities, "label": tf.gather(label_names, is_second)}

    return score
