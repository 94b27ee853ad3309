"""Writes embeddings for TensorBoard's projector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tensorboard.plugins import projector

from trainer.runtime.files import replacing

_MAX_TOKENS = 10_000  # more would be slow in a browser


def write_projector(
    folder: Path,
    embeddings: Mapping[str, np.ndarray],
    vocabulary: Sequence[str],
    *,
    first_id: int,
) -> None:
    """Writes the embedding vectors of the most frequent tokens, and replaces earlier ones.

    Args:
        folder: The folder of the events.
        embeddings: The embedding matrices <float32>[V, E] by name; row i belongs to token id i.
        vocabulary: The tokens, the most frequent first.
        first_id: The token id of the first token.

    Raises:
        RunError: The disk is full.
    """
    tokens = vocabulary[:_MAX_TOKENS]
    with replacing(folder / "words.tsv") as new:
        new.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    config = projector.ProjectorConfig()
    for name, matrix in embeddings.items():
        rows = np.asarray(matrix[first_id : first_id + len(tokens)], np.float32)
        with replacing(folder / f"{name}.bin") as new:
            new.write_bytes(rows.tobytes())
        config.embeddings.add(
            tensor_name=name,
            tensor_path=f"{name}.bin",
            tensor_shape=rows.shape,
            metadata_path="words.tsv",
        )
    # projector.visualize_embeddings would follow a link, and would not replace the file atomically.
    with replacing(folder / "projector_config.pbtxt") as new:
        new.write_text(str(config), encoding="utf-8")
