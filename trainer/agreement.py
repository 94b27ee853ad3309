"""Checks that all workers of a run have the same settings, data and state."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from pipeline.examples import Examples
from pipeline.vocabulary import fingerprint
from trainer.artifacts.state import TrainState
from trainer.config import TrainConfig
from trainer.runtime.replicas import Replicas

_MAY_DIFFER_BETWEEN_WORKERS = (
    *("dataset", "data_dir", "download", "cache_dir", "cache_gb", "teacher", "distribute"),
)


def check_same_settings(replicas: Replicas, config: TrainConfig) -> None:
    """Checks that all workers have the same settings, except those that may differ.

    Raises:
        UserError: A setting differs.
    """
    settings = dataclasses.asdict(config)
    for name in _MAY_DIFFER_BETWEEN_WORKERS:
        del settings[name]
    replicas.check_equal({f"--{name}": value for name, value in settings.items()})


def check_same_examples(
    replicas: Replicas, vocabulary: list[str], splits: Mapping[str, Examples]
) -> None:
    """Checks that all workers have read the same vocabulary and the same examples by split.

    Compares labels, lengths and hash buckets, not the token ids, which would have to be read from
    disk.

    Raises:
        UserError: The vocabulary or a split differs.
    """
    if not replicas.is_cluster:
        return
    values: dict[str, object] = {"the SHA-256 of the vocabulary": fingerprint(vocabulary)}
    for name, examples in splits.items():
        values[f"the number of {name} examples"] = len(examples)
        arrays = (examples.labels, examples.lengths, examples.hash_buckets)
        values[f"the SHA-256 of the {name} examples"] = _hash_arrays(arrays)
    replicas.check_equal(values)


def check_same_state(replicas: Replicas, state: TrainState) -> None:
    """Checks that all workers start from the same state.

    Raises:
        UserError: The precision, the step or the weights differ.
    """
    if not replicas.is_cluster:
        return
    weights = (variable.numpy() for variable in state.model.variables)
    replicas.check_equal(
        {
            "--precision": state.model.dtype_policy.name,
            "the step to resume from": int(state.step),
            "the SHA-256 of the weights": _hash_arrays(weights),
        }
    )


def _hash_arrays(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
