"""Prints results, and writes output to stdout, a file that is replaced as a whole, or a device."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from absl import flags

from pipeline.errors import UserError, escape
from pipeline.files.paths import expand_home
from scripts.cli import streams
from scripts.cli.flags import FLAGS

_DESCRIPTORS = ("/dev/stderr", "/dev/fd/", "/proc/")  # paths of open files, which stay


def define_format_flag() -> None:
    """Defines --format of `print_results`."""
    flags.DEFINE_enum("format", "tsv", ("tsv", "json"), "the output format")


def print_results(results: Mapping[str, object]) -> None:
    """Prints names and values: a line with a tab for each, or JSON, as --format says."""
    if FLAGS.format == "json":
        print(json.dumps(results, indent=2))
        return
    for name, value in results.items():
        print(name, escape(value) if isinstance(value, str) else json.dumps(value), sep="\t")


@dataclasses.dataclass(frozen=True)
class Output:
    """The destination of --output, which is checked before the work starts.

    Args:
        name: A path; empty or `-` for stdout.

    Raises:
        UserError: The destination cannot be written.
    """

    name: str

    def __post_init__(self) -> None:
        if self.is_stdout:
            if 1 in streams.closed:
                raise UserError("stdout is closed; name a file: --output=FILE")
            return
        start = f"--output={self.name}"
        path = self._target()
        if path.is_dir() or self.name.endswith("/"):
            example = Path(self.name) / "predictions.tsv"
            raise UserError(f"{start} is a folder; name a file in it, such as {example}")
        if not path.parent.is_dir():
            raise UserError(f"{start}: there is no folder {path.parent}; make it first")
        replaced = [] if _is_special(path) else [path.parent]
        for needed in [*replaced, path]:
            if needed.exists() and not os.access(needed, os.W_OK):
                raise UserError(f"{start}: {needed} is not writable; name another file")

    @property
    def is_stdout(self) -> bool:
        """Returns whether the destination is stdout."""
        return self.name in ("", "-", "/dev/stdout")

    def is_same_file(self, other: Path) -> bool:
        """Returns whether the destination is the regular file at another path."""
        path = self._target()
        return path.is_file() and other.is_file() and path.samefile(other)

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Opens the destination for writing.

        A regular file is created or replaced at the end, when all output is complete. Links are
        followed: their target is replaced, and the links stay. Output to pipes and devices is
        written directly.
        """
        if self.is_stdout:
            yield sys.stdout.buffer
            return
        path = self._target()
        if _is_special(path):
            with path.open("ab") as file:
                yield file
            return
        from trainer.runtime.files import replacing

        with replacing(path) as new, new.open("wb") as file:
            yield file

    def _target(self) -> Path:
        """Follows links to a file."""
        path = expand_home(self.name).absolute()
        return path if _is_special(path) else Path(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    """Returns whether a path is a pipe, a device or an open descriptor."""
    return str(path).startswith(_DESCRIPTORS) or (path.exists() and not path.is_file())
