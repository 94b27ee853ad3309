"""Trains, loads and exports text classifiers. This module is the public Python API.

    run = trainer.train(trainer.TrainConfig(dataset="reviews.csv"), "runs/a")
    run.predict(["A quiet, moving film."])

The modules are layers. Each imports only from the layers to its right:

    run → preparation → {loop, agreement} → step → artifacts → building → objectives
        → {evaluation, data} → monitoring → runtime → config
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import RunError, UserError
from trainer.config import TrainConfig
from trainer.runtime.signals import Interrupted

if TYPE_CHECKING:
    from trainer.artifacts.trained_run import TrainedRun

__all__ = ["Interrupted", "RunError", "TrainConfig", "UserError", "export", "load", "train"]
__version__ = "0.3.0"

# The functions import TensorFlow only when they are called, because its import takes seconds.


def train(config: TrainConfig, model_dir: Path | str) -> TrainedRun:
    """Trains a new run or resumes a run, and returns its best model.

    Args:
        config: The settings.
        model_dir: The folder of the run. Its results.json has the metrics of the test split.

    Raises:
        UserError, RunError, Interrupted: As `trainer.run.train`.
    """
    from trainer import run

    run.train(config, Path(model_dir))
    return load(model_dir)


def load(model_dir: Path | str) -> TrainedRun:
    """Loads the best model of a run for prediction, explanation and evaluation.

    Raises:
        UserError, RunError: As `trainer.artifacts.trained_run.load`.
    """
    from trainer.artifacts import trained_run

    return trained_run.load(model_dir)


def export(model_dir: Path | str, export_dir: Path | str) -> None:
    """Exports the best model of a run as a SavedModel that takes texts.

    Raises:
        UserError, RunError, OSError: As `trainer.artifacts.export.export`.
    """
    from trainer.artifacts import export as exports

    exports.export(Path(model_dir), Path(export_dir))
