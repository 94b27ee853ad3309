"""Paths that users type."""

from __future__ import annotations

import os
from pathlib import Path


def expand_home(name: str) -> Path:
    """Returns a path with a leading `~` replaced; a file such as `~$data.csv` keeps its name."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 Path.expanduser fails for such files
