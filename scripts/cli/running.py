"""The running command: its module, its name, and the lifetime of its flags."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from scripts.cli.flags import FLAGS


@dataclasses.dataclass(frozen=True)
class RunningCommand:
    """A running command.

    Attributes:
        module: The module that defines the command.
        name: The module name, as typed after `python -m`.
        arguments: The command-line arguments after the name.
    """

    module: ModuleType
    name: str
    arguments: list[str]


_running: list[RunningCommand] = []


def running_command() -> RunningCommand:
    """Returns the running command."""
    return _running[-1]


@contextlib.contextmanager
def start_command(define_flags: Callable[[], None], arguments: Sequence[str]) -> Iterator[None]:
    """Defines a command's flags in a context, and removes them at the end.

    The next command in this process may define flags of the same names.

    Args:
        define_flags: Defines the flags of the command with absl.
        arguments: The command-line arguments after the command's name.
    """
    module = sys.modules[define_flags.__module__]
    _running.append(RunningCommand(module, _module_name(module), list(arguments)))
    before = set(FLAGS)
    try:
        define_flags()
        defined = set(FLAGS) - before  # before the command imports libraries that define flags
        yield
    finally:
        _running.pop()
        for name in before:
            if FLAGS[name].present:  # such as --verbosity
                FLAGS[name].unparse()
        for name in defined:
            delattr(FLAGS, name)


def _module_name(module: ModuleType) -> str:
    """Returns the name of a module, even if its file was run as a script."""
    if module.__spec__:
        return module.__spec__.name
    return f"scripts.{Path(module.__file__ or '').stem}"
