"""The vectors of words, for TensorBoard's projector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tensorboard.plugins import projector

from trainer.runtime.files import replacing

_MOST_WORDS = 10_000  # the projector works in a browser


def write_projector(
    folder: Path, vectors: Mapping[str, np.ndarray], words: Sequence[str], *, first_word: int
) -> None:
    """Writes the vectors of the most frequent words; those written before are replaced.

    Args:
        folder: A folder of events.
        vectors: <float32>[V, E] by name: a row for each token id.
        words: The vocabulary.
        first_word: The token id of its first word.

    Raises:
        RunError: The disk is full.
    """
    shown = words[:_MOST_WORDS]
    with replacing(folder / "words.tsv") as new:
        new.write_text("".join(f"{word}\n" for word in shown), encoding="utf-8")
    config = projector.ProjectorConfig()
    for name, table in vectors.items():
        rows = np.asarray(table[first_word : first_word + len(shown)], np.float32)
        with replacing(folder / f"{name}.bin") as new:
            new.write_bytes(rows.tobytes())
        config.embeddings.add(
            tensor_name=name,
            tensor_path=f"{name}.bin",
            tensor_shape=rows.shape,
            metadata_path="words.tsv",
        )
    # Like projector.visualize_embeddings, but atomically, and never through a link.
    with replacing(folder / "projector_config.pbtxt") as new:
        new.write_text(str(config), encoding="utf-8")
