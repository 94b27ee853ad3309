"""A trained run as a SavedModel that reads text."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from pipeline.vocabulary import PADDING_ID
from trainer.run import TrainedRun, load


def export(model_dir: Path, export_dir: Path) -> None:
    """Writes the best model of a run as a SavedModel; it computes in float32 on any device.

    Its signature `serving_default` takes texts <string>[B] and answers `probability` <float32>[B]
    and `label` <string>[B].

    Args:
        model_dir: The run's folder.
        export_dir: The SavedModel's folder; one that is there is replaced.

    Raises:
        Mistake: There is no trained run in model_dir.
        Fault: Something there is damaged.
    """
    # A graph traced where a GPU is seen has cuDNN's LSTM in it, which no CPU can run.
    tf.config.set_visible_devices([], "GPU")
    run = load(model_dir, precision="float32")
    run.vectorizer(tf.constant([""]))  # builds its layer, as track wants it
    archive = keras.export.ExportArchive()
    archive.track(run.evaluator.model)
    archive.track(run.vectorizer.layer)
    archive.add_endpoint(
        name="serving_default",
        fn=_scorer(run),
        input_signature=[tf.TensorSpec([None], tf.string, name="texts")],
    )
    archive.write_out(str(export_dir), verbose=False)


def _scorer(run: TrainedRun):  # noqa: ANN202 a function of tensors
    label_names = tf.constant(run.label_names)

    def score(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        token_ids = run.vectorizer(texts).to_tensor(PADDING_ID)
        logits = run.evaluator.model(token_ids, training=False)
        probabilities = tf.sigmoid(logits)
        is_second = tf.cast(probabilities > 0.5, tf.int32)
        return {"probability": probabilities, "label": tf.gather(label_names, is_second)}

    return score
