"""Independent random streams from the one seed of a run."""

from __future__ import annotations

import numpy as np

_BITS = 30  # Keras takes seeds modulo 2^31 - 2


def derive_seed(seed: int, name: str) -> int:
    """Derives the seed of one random stream from a common seed.

    Two initializers with the same seed draw the same numbers: a Glorot-uniform kernel would be a
    multiple of the embedding. Seeds such as seed + 1 do not help, because another run may use them.
    The hash of `numpy.random.SeedSequence` avoids both. A derived seed depends only on its
    arguments, so adding a layer does not change another layer's stream.

    Args:
        seed: The common seed, at least 0; it may be a derived one.
        name: Names the stream; no two streams of a common seed may have the same name.

    Returns:
        The seed, from 0 to 2^30 - 1.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=tuple(name.encode()))
    return int(sequence.generate_state(1, np.uint64)[0]) >> (64 - _BITS)
