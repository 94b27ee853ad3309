"""Standard streams that were closed when the command started."""

from __future__ import annotations

import os
import sys

_closed: set[int] = set()


def is_closed(descriptor: int) -> bool:
    """Says whether stdin (0), stdout (1) or stderr (2) was closed when the command started."""
    return descriptor in _closed


def open_closed() -> None:
    """Opens /dev/null in the place of closed standard streams.

    Otherwise the next opened file would get their number, and what libraries print.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _closed.add(descriptor)
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            stream = os.fdopen(descriptor, "r" if name == "stdin" else "w", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
