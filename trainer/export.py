"""A trained run as a SavedModel that reads text, or as a Keras model of token ids."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf

from model.lstm import without_cudnn
from pipeline import vocabulary
from pipeline.errors import Mistake
from pipeline.vocabulary import PADDING_ID
from trainer.files import full_disk_told
from trainer.model_card import model_card
from trainer.trained import TrainedRun, load, read_record

_CARD = "model_card.md"


def export(model_dir: Path, export_dir: Path, export_format: str) -> None:
    """Writes the best model of a run, with its model card; it computes in float32 on any device.

    `saved_model` has a signature `serving_default`, which takes texts <string>[B] and answers
    `probability` <float32>[B] and `label` <string>[B]. `keras` is `model.keras`, which takes token
    ids, and `vocabulary.txt`.

    Args:
        model_dir: The run's folder.
        export_dir: Where they go; an earlier export that is there is replaced, whole or not at all.
        export_format: `saved_model` or `keras`.

    Raises:
        Mistake: There is no trained run in model_dir, or export_dir holds something else.
        Fault: Something there is damaged, or the disk is full.
    """
    _check_replaceable(export_dir)
    # One branch: how many suit a machine is not for this one to say.
    with _same_tensor_float_32():
        run = load(model_dir, precision="float32", branches=1)
    card = model_card(
        model_dir, read_record(model_dir), best_epoch=run.best_epoch, loss=run.validation_loss
    )
    new = export_dir.with_name(export_dir.name + ".new")
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
    new.mkdir(parents=True)
    try:
        with full_disk_told("the model", new):
            (_write_keras if export_format == "keras" else _write_saved_model)(run, new)
            (new / _CARD).write_text(card, encoding="utf-8")
        if export_dir.exists():
            shutil.rmtree(export_dir)
        new.rename(export_dir)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextlib.contextmanager
def _same_tensor_float_32() -> Iterator[None]:
    """Leaves TensorFloat-32, which loading a run switches by its precision, as it was."""
    was_enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(was_enabled)


def _check_replaceable(export_dir: Path) -> None:
    if not export_dir.exists():
        return
    if not export_dir.is_dir():
        raise Mistake(f"--export_dir={export_dir} is a file; name a folder")
    if any(export_dir.iterdir()) and not (export_dir / _CARD).is_file():
        raise Mistake(
            f"--export_dir={export_dir} holds something else than an export (it has no {_CARD}), "
            "and would be replaced; name another folder"
        )


def _write_keras(run: TrainedRun, folder: Path) -> None:
    run.evaluator.model.save(folder / "model.keras")
    vocabulary.save(run.vectorizer.words, folder / "vocabulary.txt")


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
