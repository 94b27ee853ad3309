"""Truncates long texts."""

from __future__ import annotations

import tensorflow as tf

TRUNCATIONS = ("head", "tail", "ends")


def truncate_rows(rows: tf.RaggedTensor, length: int, truncate: str) -> tf.RaggedTensor:
    """Keeps at most `length` values of each row.

    Args:
        rows: Ragged [B, (T)].
        length: At least 0.
        truncate: Which values of a longer row are kept: those at its `head`, those at its `tail`,
            or half of them at each of its `ends`.

    Returns:
        Ragged [B, (at most length)].
    """
    head = {"head": length, "tail": 0, "ends": length // 2}[truncate]
    excess = tf.maximum(rows.row_lengths() - length, 0)  # [B]
    positions = tf.ragged.range(rows.row_lengths() - excess)  # in the new rows
    numbers = positions.value_rowids()
    in_row = positions.flat_values
    in_row += tf.where(in_row < head, tf.zeros_like(in_row), tf.gather(excess, numbers))
    values = tf.gather(rows.values, tf.gather(rows.row_starts(), numbers) + in_row)
    return positions.with_flat_values(values)
