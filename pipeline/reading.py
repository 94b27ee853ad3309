"""What all data sets share when they are read: batch size, hashes of texts, errors."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from pipeline.errors import RunError

READ_BATCH = 1024  # texts per batch, a few MB
HASH_BUCKETS = 10_000  # validation_fraction is rounded to a multiple of 1 / HASH_BUCKETS


def disable_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Disables tf.data's autotuning, so that an iterator closes without delay.

    With autotuning, an iterator closes only when the tuning thread wakes up. That thread doubles
    its pauses: after an epoch of 30 seconds, closing would take up to 15 seconds.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def hash_buckets(texts: tf.Tensor) -> tf.Tensor:
    """Hashes each of texts <string>[N] to a number <int64>[N] below HASH_BUCKETS."""
    return tf.strings.to_hash_bucket_fast(texts, HASH_BUCKETS)


def in_validation(buckets: np.ndarray, *, validation_fraction: float) -> np.ndarray:
    """Returns a mask <bool>[N] of the train examples that belong to the validation split.

    The choice depends only on the hash of the text. It needs no list of examples, is the same in
    every run, and puts all copies of a text in one split. The hash has no salt, so that the
    published results keep their validation split of imdb_reviews. Test splits
    (`pipeline.file_dataset.splitting`) use another hash. The `buckets` <int64>[N] are those of
    `hash_buckets`.
    """
    return buckets < round(validation_fraction * HASH_BUCKETS)


@contextlib.contextmanager
def translate_read_errors(name: str, folder: str | None) -> Iterator[None]:
    """Translates TensorFlow's read errors into a RunError that says how to repair the data set.

    The data set was prepared in `folder`; None for the user's files, which nobody should remove.

    Raises:
        RunError: A file of the data set is missing, truncated or corrupt.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        if folder:
            raise damage_error(name, folder, error) from error
        raise RunError(f"{name} cannot be read ({first_line(error)})") from error


def damage_error(name: str, folder: str, error: Exception) -> RunError:
    """Returns the error for a prepared data set that cannot be read."""
    advice = "check the address, and whether this machine has access to it"
    if "://" not in folder:
        command = f"rm -r {shlex.quote(folder)}"
        advice = f"remove its folder, and the next run prepares it again: {command}"
    return RunError(f"{name} cannot be read from {folder} ({first_line(error)}); {advice}")


def first_line(error: Exception) -> str:
    """Formats the class and the first line of an exception, in at most 200 characters."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]
