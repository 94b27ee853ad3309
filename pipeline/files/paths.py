"""Paths that users type."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from pipeline import DATASETS

_log = logging.getLogger(__name__)

# NAME, NAMESPACE:NAME, NAME/CONFIGURATION, each also with a version such as :1.0.* at the end.
_TFDS_NAME = r"([\w-]+:)?[a-zA-Z]\w*(/[\w+.-]+)?(:(\d+|\*)(\.(\d+|\*)){2})?"


def expand_home(name: str) -> Path:
    """Returns a path with a leading `~` replaced; a file such as `~$data.csv` keeps its name."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 Path.expanduser fails for such files


def names_files(dataset: str) -> bool:
    """Returns whether a data set is a file, folder or pattern; otherwise it is a name in TFDS."""
    if dataset in DATASETS:
        return False
    is_name = re.fullmatch(_TFDS_NAME, dataset)
    if is_name and expand_home(dataset).exists():
        _log.info("%s is read from the path of this name, not from TensorFlow Datasets", dataset)
        return True
    return not is_name
