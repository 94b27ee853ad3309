"""What the bits of a run depend on beside its settings and its data."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer import devices, processor

if TYPE_CHECKING:
    from trainer.records import RunRecord

_log = logging.getLogger(__name__)

_LIBRARIES = ("tensorflow", "keras")  # whose kernels and layers compute


def current() -> dict[str, str]:
    """Returns the processor's model and the versions of the libraries that compute."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"processor": processor.model(), **versions}


def recorded(content: Mapping[str, Any]) -> dict[str, str]:
    """Takes from the content of a config.json what `current` returns, as far as it is there."""
    found = {"processor": content.get("processor"), **content.get("versions", {})}
    return {name: found[name] for name in ("processor", *_LIBRARIES) if found.get(name)}


def warn_of_changes(record: RunRecord, model_dir: Path) -> None:
    """Logs one warning if a run goes on where its bits may become others.

    Args:
        record: Its config.json.
        model_dir: Its folder.
    """
    now = current()
    changes = [
        f"{name} {before} there, {now[name]} here"
        for name, before in record.environment.items()
        if before != now[name]
    ]
    here = devices.branches(record.config.batch_size)
    if record.branches not in (None, here):
        changes.append(
            f"{record.branches} parts of a batch there, which are kept, where {here} suit the cores"
        )
    if changes:
        _log.warning(
            "%s was begun elsewhere (%s): it goes on, and its results may differ in the last bits "
            "from those of a run that stayed there",
            model_dir,
            "; ".join(changes),
        )
