"""Trains, loads and exports text classifiers. This module is the public Python API.

    data = pipeline.from_arrays(texts, labels)
    run = trainer.train(trainer.TrainConfig(epochs=2), "runs/a", data=data)
    run.predict(["A quiet, moving film."])

The modules are layers. Each imports only from the layers to its right:

    run → preparation → {loop, agreement} → step → artifacts → building → objectives
        → {evaluation, data} → monitoring → runtime → config
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import RunError, UserError
from trainer.config import TrainConfig
from trainer.runtime.signals import Interrupted

if TYPE_CHECKING:
    from pipeline.file_dataset.sources import ArrayData
    from trainer.artifacts.trained_run import TrainedRun

__all__ = ["Interrupted", "RunError", "TrainConfig", "UserError", "export", "load", "train"]
__version__ = "0.3.0"

os.environ["KERAS_BACKEND"] = "tensorflow"  # or else Keras follows the user's setting, such as jax

# The functions import TensorFlow only when they are called, because its import takes seconds.


def train(
    config: TrainConfig, model_dir: Path | str, *, data: ArrayData | None = None
) -> TrainedRun:
    """Trains a new run or resumes a run, and returns its best model.

    It sets TensorFlow's threads, if TensorFlow is not initialized yet, and switches TensorFloat-32
    off for a run in float32, on otherwise. It changes nothing else in the process.

    Args:
        config: The settings.
        model_dir: The folder of the run. Its results.json has the metrics of the test split.
        data: Data in memory, from `pipeline.from_arrays`, in place of `config.dataset`.

    Raises:
        UserError, RunError, Interrupted: As `trainer.run.train`.
        TypeError: `config` is not a TrainConfig, or `data` is not from `from_arrays`.
    """
    from pipeline.file_dataset.sources import ArrayData
    from trainer import run

    if not isinstance(config, TrainConfig):
        raise TypeError(f"train takes a TrainConfig and a folder, not {type(config).__name__}")
    if data is not None and not isinstance(data, ArrayData):
        raise TypeError(f"data is pipeline.from_arrays(texts, labels), not {type(data).__name__}")
    _check_folder("model_dir", model_dir)
    run.train(config, Path(model_dir), data=data)
    return load(model_dir)


def load(model_dir: Path | str) -> TrainedRun:
    """Loads the best model of a run for prediction, explanation and evaluation.

    Raises:
        UserError, RunError: As `trainer.artifacts.trained_run.load`.
    """
    from trainer.artifacts import trained_run

    _check_folder("model_dir", model_dir)
    return trained_run.load(model_dir)


def export(model_dir: Path | str, export_dir: Path | str) -> None:
    """Exports the best model of a run as a SavedModel that takes texts.

    Raises:
        UserError, RunError, OSError: As `trainer.artifacts.export.export`.
    """
    from trainer.artifacts import export as exports

    _check_folder("model_dir", model_dir)
    _check_folder("export_dir", export_dir)
    exports.export(Path(model_dir), Path(export_dir))


def _check_folder(name: str, folder: Path | str) -> None:
    """Refuses an empty name and a URL, which Path would make the current folder and `gs:/b`."""
    if folder == "" or "://" in str(folder):
        raise UserError(f"{name}={str(folder)!r} is not a folder of this machine; name one")
