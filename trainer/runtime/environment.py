"""What the bits of a run depend on besides its settings and its data."""

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

_LIBRARIES = ("tensorflow", "keras")  # whose kernels and layers compute
_PROGRAM = "text-sentiment"
# It wrote no version into config.json, and chose the best epoch by the calibrated loss, which
# cannot be compared with the uncalibrated loss of later versions.
_EARLY = "0.1.0"


def current() -> dict[str, str]:
    """Returns the processor's model and the versions of this program and of its libraries."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"processor": processor.model(), **versions, _PROGRAM: __version__}


def recorded(content: Mapping[str, Any]) -> dict[str, str]:
    """Returns what `current` returns, from a config.json, as far as it is there."""
    found = {"processor": content.get("processor"), **content.get("versions", {})}
    known = {name: found[name] for name in ("processor", *_LIBRARIES) if found.get(name)}
    return {**known, _PROGRAM: content.get("program_version", _EARLY)}


def warn_of_changes(
    recorded: Mapping[str, str], branches: int | None, config: TrainConfig, model_dir: Path
) -> None:
    """Logs one warning if a run is resumed where its bits may differ.

    Args:
        recorded: The environment in its config.json.
        branches: The branches in its config.json; None in a run of an early version.
        config: The settings.
        model_dir: Its folder.
    """
    now = current()
    changes = [
        f"{name} {before} there, {now[name]} here"
        for name, before in recorded.items()
        if before != now[name]
    ]
    here = devices.branches(config.batch_size)
    if branches not in (None, here):
        changes.append(
            f"{branches} branches of a batch there, which are kept; {here} would suit the cores"
        )
    if recorded.get(_PROGRAM) == _EARLY != __version__:
        changes.append("the loss of its best epoch so far is calibrated, that of later ones is not")
    if changes:
        _log.warning(
            "%s was started elsewhere (%s): it is resumed, but its results may differ from those "
            "of a run that was not moved",
            model_dir,
            "; ".join(changes),
        )
