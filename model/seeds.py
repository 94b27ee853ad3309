"""Independent random streams from the one seed of a run."""

from __future__ import annotations

import numpy as np

_BITS = 30  # Keras takes seeds modulo 2^31 - 2


def derive_seed(seed: int, name: str) -> int:
    """Derives the seed of one use of random numbers from a common seed.

    Two initializers with one seed draw from one stream: a Glorot-uniform kernel is then a multiple
    of the embedding. Neighbouring seeds are no better, since the next run may have the next seed.
    The hash of `numpy.random.SeedSequence` separates both. A derived seed depends on nothing but
    its arguments, so a layer that is added changes no other layer's stream.

    Args:
        seed: The common seed, at least 0; it may be a derived one.
        name: What the stream is for, different for each use of a common seed.

    Returns:
        The seed, from 0 to 2^30 - 1.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=tuple(name.encode()))
    return int(sequence.generate_state(1, np.uint64)[0]) >> (64 - _BITS)
