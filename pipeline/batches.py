"""From token ids to padded batches: shuffle, sort pools by length, pad, prefetch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from pipeline.examples import Examples
from pipeline.reading import disable_autotune
from pipeline.vocabulary import OOV_ID, PADDING_ID

# Batches per pool of examples sorted by length. A larger pool has less padding, and mixes less.
_POOL_BATCHES = 50
_READ_AHEAD = 8  # batches
_PAD_MULTIPLE = 8  # batch lengths are rounded up to a multiple of this, for tensor cores
Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # token ids, labels, offsets; see `batch_spec`
PADDING_LABEL = -2  # the label of a row without an example, which only fills up a shard


def batches_per_epoch(examples: int, batch_size: int) -> int:
    """Returns the number of batches in an epoch, one of which may be smaller."""
    return math.ceil(examples / batch_size)


def epoch_order(lengths: np.ndarray, *, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Assigns the examples of an epoch to batches, in random order.

    The examples are shuffled and divided into pools. Each pool is sorted by length and divided into
    batches, so that the examples of a batch have similar lengths. The batches are shuffled. The
    order depends only on the arguments, so a resumed run can skip the batches it has trained on.

    Args:
        lengths: <int64>[N], tokens of each example.
        batch_size: Examples per batch; one batch may have fewer.
        seed: The seed of the run.
        epoch: The epoch, from 0.

    Returns:
        The positions <int64>[≤ batch_size] of the examples of each batch.
    """
    random = np.random.default_rng([seed, epoch])
    shuffled = random.permutation(len(lengths))
    pool_size = batch_size * _POOL_BATCHES
    batches: list[np.ndarray] = []
    for start in range(0, len(shuffled), pool_size):
        pool = shuffled[start : start + pool_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += np.split(pool, range(batch_size, len(pool), batch_size))
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
    """Returns the batches of one epoch, in `epoch_order`.

    Args:
        examples: The train split.
        batch_size: Examples per batch, over all shards.
        seed: The seed of the run.
        epoch: The epoch, from 0.
        first_batch: The number of batches to skip, for a resumed run.
        shards: The number of shards that each batch is split into.
        local: The indices of the shards that this process reads.

    Returns:
        Batches of (token_ids <int32>[B, T], labels, offsets), padded with PADDING_ID; see
        `batch_spec`. With more than one shard, all shards of all batches have the same size,
        because gathering across processes requires it. Rows without an example fill up a batch that
        is smaller or does not divide evenly; they have one out-of-vocabulary token and the label
        PADDING_LABEL.
    """
    order = epoch_order(examples.lengths, batch_size=batch_size, seed=seed, epoch=epoch)
    return _dataset(
        _gather(examples), _local_shards(order[first_batch:], batch_size, shards, local)
    )


def batch_spec(examples: Examples) -> tuple[tf.TensorSpec, tf.TensorSpec, tf.TensorSpec]:
    """Returns the types of token ids, labels and offsets of the batches.

    The token ids are <int32>[B, T], labels and offsets are as in `Examples`. Without offsets, these
    are <float32>[B, 0].
    """
    labels, offsets = examples.labels, _offsets(examples)
    return (
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None, *labels.shape[1:]], labels.dtype),
        tf.TensorSpec([None, offsets.shape[1]], tf.float32),
    )


def _offsets(examples: Examples) -> np.ndarray:
    if examples.offsets is None:
        return np.zeros([len(examples), 0], np.float32)
    return examples.offsets


def first_column(labels: tf.Tensor) -> tf.Tensor:
    """Returns labels [B], or the first column of soft labels [B, L]; below 0 for no label."""
    return labels if labels.shape.rank == 1 else labels[:, 0]


def evaluation_order(lengths: np.ndarray) -> np.ndarray:
    """Returns the positions <int64>[N] of examples of these lengths, shortest first."""
    return np.argsort(lengths, kind="stable")


def evaluation_batches(
    examples: Examples, *, batch_size: int, shards: int = 1, local: range = range(1)
) -> tf.data.Dataset:
    """Returns batches with every example once, in `evaluation_order`; see `training_batches`."""
    order = _in_evaluation_order(examples, batch_size)
    return _dataset(_gather(examples), _local_shards(order, batch_size, shards, local))


def eager_batches(
    examples: Examples, *, batch_size: int, shards: int = 1, local: range = range(1)
) -> Iterator[Batch]:
    """Yields the `evaluation_batches` without tf.data, whose pipeline takes 0.1 s to build."""
    order = _in_evaluation_order(examples, batch_size)
    gather = _gather(examples)
    for batch in _local_shards(order, batch_size, shards, local):
        with tf.device("CPU"):  # otherwise all values are copied to a GPU
            gathered = gather(tf.constant(batch))
        yield gathered


def _in_evaluation_order(examples: Examples, batch_size: int) -> list[np.ndarray]:
    by_length = evaluation_order(examples.lengths)
    return np.split(by_length, range(batch_size, len(by_length), batch_size))


def _local_shards(
    order: list[np.ndarray], batch_size: int, shards: int, local: range
) -> list[np.ndarray]:
    """Returns the positions of each batch's local shards; -1 marks a row without an example."""
    if shards == 1:
        return order
    size = -(-batch_size // shards)
    filled = (np.pad(b, (0, size * shards - len(b)), constant_values=-1) for b in order)
    return [batch[size * local.start : size * local.stop] for batch in filled]


def _dataset(gather: Callable[[tf.Tensor], Batch], order: list[np.ndarray]) -> tf.data.Dataset:
    """Returns a tf.data pipeline that gathers the batches ahead of their use."""
    with tf.device("CPU"):  # where tf.data runs
        positions = tf.RaggedTensor.from_row_lengths(
            np.concatenate([np.empty(0, np.int64), *order]), [len(batch) for batch in order]
        )
    batches = tf.data.Dataset.from_tensor_slices(positions).map(gather).prefetch(_READ_AHEAD)
    return disable_autotune(batches)


def _gather(examples: Examples) -> Callable[[tf.Tensor], Batch]:
    """Returns a function that reads and pads the examples at positions <int64>[B]."""
    with tf.device("CPU"):
        arrays = (examples.starts, examples.lengths, examples.labels, _offsets(examples))
        starts, lengths, labels, offsets = map(tf.constant, arrays)

    @tf.autograph.experimental.do_not_convert  # AutoGraph takes 0.3 s and would change nothing
    def gather(batch: tf.Tensor) -> Batch:
        is_example = batch >= 0
        batch = tf.maximum(batch, 0)
        batch_lengths = tf.where(is_example, tf.gather(lengths, batch), 0)
        longest = tf.maximum(tf.reduce_max(batch_lengths), 1)  # 1 for an empty batch
        columns = tf.range(-(-longest // _PAD_MULTIPLE) * _PAD_MULTIPLE)
        is_token = columns < tf.expand_dims(batch_lengths, 1)  # [B, T]
        value_positions = tf.expand_dims(tf.gather(starts, batch), 1) + tf.cast(columns, tf.int64)
        token_ids = examples.values.gather(tf.where(is_token, value_positions, 0))
        filler = tf.where(tf.expand_dims(is_example, 1) | (columns > 0), PADDING_ID, OOV_ID)
        return (
            tf.where(is_token, token_ids, filler),
            _keep_rows(tf.gather(labels, batch), is_example, PADDING_LABEL),
            _keep_rows(tf.gather(offsets, batch), is_example, 0),
        )

    return gather


def _keep_rows(values: tf.Tensor, is_kept: tf.Tensor, other: int) -> tf.Tensor:
    """Replaces the rows of values [B, ...] outside a mask <bool>[B] by `other`."""
    is_kept = tf.reshape(is_kept, [-1] + [1] * (values.shape.rank - 1))
    return tf.where(is_kept, values, tf.constant(other, values.dtype))
