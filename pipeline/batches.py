"""From token ids to padded batches: shuffle, bucket by length, pad, prefetch."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from pipeline.datasets import disable_autotune
from pipeline.examples import Examples
from pipeline.vocabulary import PADDING_ID, UNKNOWN_ID

_POOL_BATCHES = (
    50  # batches whose reviews are sorted by length together: more pads less, mixes less
)
_READ_AHEAD = 8  # batches; one takes 1 ms to make
_PAD_MULTIPLE = 8  # a batch is as long as its longest review, rounded up for tensor cores
PADDING_LABEL = -2.0  # the label of a row that only makes the parts of a batch equal


def batches_per_epoch(examples: Examples, batch_size: int) -> int:
    """Counts the batches of an epoch, the smaller last one included."""
    return math.ceil(len(examples) / batch_size)


def epoch_order(lengths: np.ndarray, *, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Decides which reviews make up each batch of an epoch.

    The reviews are shuffled and cut into pools; each pool is sorted by length and cut into
    batches, so that a batch holds reviews of nearly one length; the batches are shuffled. The
    order is a function of its arguments: a resumed run finds its place by counting batches.

    Args:
        lengths: <int64>[N], tokens in each review.
        batch_size: Examples a batch; the last batch drawn has what is left.
        seed: The run's seed.
        epoch: Counts from 0.

    Returns:
        The batches in order, each the positions <int64>[≤ batch_size] of its reviews.
    """
    random = np.random.default_rng([seed, epoch])
    shuffled = random.permutation(len(lengths))
    pool = batch_size * _POOL_BATCHES
    batches = []
    for start in range(0, len(shuffled), pool):
        in_pool = shuffled[start : start + pool]
        in_pool = in_pool[np.argsort(lengths[in_pool], kind="stable")]
        batches += np.split(in_pool, range(batch_size, len(in_pool), batch_size))
    return [batches[i] for i in random.permutation(len(batches))]


def training_batches(
    examples: Examples,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first_batch: int = 0,
    shards: int = 1,
    local: range = range(1),
) -> tf.data.Dataset:
    """Makes the batches of one epoch.

    Args:
        examples: The training split.
        batch_size: Examples a batch.
        seed: The run's seed.
        epoch: Counts from 0.
        first_batch: How many batches of the epoch to leave out, for a run that goes on.
        shards: Into how many shards of equal size a batch is split.
        local: The numbers of the shards that this process reads.

    Returns:
        Batches of (token_ids <int32>[B, T], labels <float32>[B]), padded with PADDING_ID. Parts
        are equal in all batches (gathering what processes made of them needs it): in the smaller
        last one, rows without a review are of one unknown token and have the label PADDING_LABEL.
    """
    order = epoch_order(examples.lengths, batch_size=batch_size, seed=seed, epoch=epoch)
    return _gather(
        examples, [_local_shards(batch, batch_size, shards, local) for batch in order[first_batch:]]
    )


def evaluation_order(lengths: np.ndarray) -> np.ndarray:
    """Returns the positions <int64>[N] of reviews of these lengths, shortest first."""
    return np.argsort(lengths, kind="stable")


def evaluation_batches(
    examples: Examples, *, batch_size: int, shards: int = 1, local: range = range(1)
) -> tf.data.Dataset:
    """Makes batches in which every review stands once, in `evaluation_order`.

    Args:
        examples: Any split.
        batch_size: Examples a batch.
        shards: Into how many shards of equal size a batch is split.
        local: The numbers of the shards that this process reads.

    Returns:
        Batches as those of `training_batches`.
    """
    by_length = evaluation_order(examples.lengths)
    order = np.split(by_length, range(batch_size, len(by_length), batch_size))
    return _gather(examples, [_local_shards(batch, batch_size, shards, local) for batch in order])


def _local_shards(batch: np.ndarray, batch_size: int, shards: int, local: range) -> np.ndarray:
    """Returns the positions of the local shards of a batch; -1 stands for no example."""
    if shards == 1:
        return batch
    size = -(-batch_size // shards)
    filled = np.pad(batch, (0, size * shards - len(batch)), constant_values=-1)
    return filled[size * local.start : size * local.stop]


def _gather(examples: Examples, order: list[np.ndarray]) -> tf.data.Dataset:
    positions = tf.RaggedTensor.from_row_lengths(
        np.concatenate([np.empty(0, np.int64), *order]), [len(batch) for batch in order]
    )

    def gather(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        token_ids, labels = tf.numpy_function(
            lambda chosen: _padded(examples, chosen), [batch], (tf.int32, tf.float32)
        )
        return tf.ensure_shape(token_ids, [None, None]), tf.ensure_shape(labels, [None])

    batches = tf.data.Dataset.from_tensor_slices(positions).map(gather).prefetch(_READ_AHEAD)
    return disable_autotune(batches)


def _padded(examples: Examples, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chosen = examples[positions[positions >= 0]]
    longest = int(chosen.lengths.max(initial=1))
    length = longest + -longest % _PAD_MULTIPLE
    token_ids = np.full([len(positions), length], PADDING_ID, np.int32)
    for row, length in enumerate(chosen.lengths):
        token_ids[row, :length] = chosen.row(row)
    token_ids[len(chosen) :, 0] = UNKNOWN_ID
    nothing = np.full(len(positions) - len(chosen), PADDING_LABEL, np.float32)
    return token_ids, np.concatenate([chosen.labels, nothing])
