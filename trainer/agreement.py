"""What the processes of one run must agree on before they train together."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np

from pipeline import vocabulary
from pipeline.examples import Examples
from trainer.artifacts.state import TrainState
from trainer.config import TrainConfig
from trainer.runtime.replicas import Replicas

# Settings that name places, which may differ between machines.
_PLACES = ("dataset", "data_dir", "download", "cache_dir", "teacher", "distribute")


def compare_settings(replicas: Replicas, config: TrainConfig) -> None:
    """Compares the settings, except the names of places.

    Raises:
        UserError: The processes of the run have different settings.
    """
    settings = dataclasses.asdict(config)
    for name in _PLACES:
        del settings[name]
    replicas.compare({f"--{name}": value for name, value in settings.items()})


def compare_data(
    replicas: Replicas,
    words: list[str],
    splits: Mapping[str, Examples],
) -> None:
    """Compares what the processes of a run have read.

    Raises:
        UserError: They have read different data.
    """
    if not replicas.is_cluster:
        return
    values = {"the vocabulary (of this SHA-256)": vocabulary.fingerprint(words)}
    for name, examples in splits.items():
        values[f"the number of {name} examples"] = len(examples)
        values[f"the {name} examples (of this SHA-256)"] = _fingerprint(examples)
    replicas.compare(values)


def _fingerprint(examples: Examples) -> str:
    """Hashes the labels, the lengths and the hashes of the texts of a split."""
    digest = hashlib.sha256()
    for array in (examples.labels, examples.lengths, examples.hash_buckets):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def compare_start(replicas: Replicas, state: TrainState) -> None:
    """Compares the checkpoints that the processes of a run resume from.

    Raises:
        UserError: They have different checkpoints, or compute in different precisions.
    """
    if not replicas.is_cluster:
        return
    model = state.model
    weights = hashlib.sha256()
    for variable in model.variables:
        weights.update(np.ascontiguousarray(variable.numpy()))
    replicas.compare(
        {
            "--precision": model.dtype_policy.name,
            "the step to go on from": int(state.step),
            "the weights (of this SHA-256)": weights.hexdigest(),
        }
    )
