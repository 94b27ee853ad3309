"""The environment of a run: the processor and the versions on which exact results depend."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer import __version__
from trainer.config import TrainConfig
from trainer.runtime import devices, processor

_log = logging.getLogger(__name__)

_LIBRARIES = ("tensorflow", "keras")  # exact results depend on their kernels and layers
_PROGRAM = "text-sentiment"
# This version wrote no version to config.json. It chose the best epoch by the calibrated loss,
# which cannot be compared with the uncalibrated loss of later versions.
_UNVERSIONED = "0.1.0"


def current() -> dict[str, str]:
    """Returns the processor and the versions of the libraries and of this program."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"processor": processor.model(), **versions, _PROGRAM: __version__}


def recorded(content: Mapping[str, Any]) -> dict[str, str]:
    """Returns the environment that a config.json recorded; it may lack values of `current`."""
    found = {"processor": content.get("processor"), **content.get("versions", {})}
    known = {name: found[name] for name in ("processor", *_LIBRARIES) if found.get(name)}
    return {**known, _PROGRAM: content.get("program_version", _UNVERSIONED)}


def warn_of_changes(
    recorded: Mapping[str, str], branches: int | None, config: TrainConfig, model_dir: Path
) -> None:
    """Logs one warning if a run is resumed in another environment, where results may differ.

    Args:
        recorded: The environment in config.json.
        branches: The branches in config.json; None in a run of an early version.
        config: The settings.
        model_dir: The folder of the run.
    """
    now = current()
    changes = [
        f"{name} {before} there, {now[name]} here"
        for name, before in recorded.items()
        if before != now[name]
    ]
    usual = devices.choose_branches(config.batch_size)
    if branches not in (None, usual):
        changes.append(
            f"{branches} branches per batch, which are kept; {usual} would suit the cores"
        )
    if recorded.get(_PROGRAM) == _UNVERSIONED != __version__:
        changes.append("the best validation loss so far is calibrated, the next ones are not")
    if changes:
        _log.warning(
            "%s was started in another environment (%s): it is resumed, but its results may differ "
            "from those of an uninterrupted run",
            model_dir,
            "; ".join(changes),
        )
