"""The running command, its flags, and what is wrong with flag files and arguments."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from absl import flags

FLAGS = flags.FLAGS
_RECIPES = Path(__file__).parents[1] / "recipes"
_FLAG = re.compile(r"--?[A-Za-z_]\w*(=.*)?|-+", re.DOTALL)

flags.disclaim_key_flags()


@dataclasses.dataclass(frozen=True)
class Running:
    """A running command.

    Attributes:
        module: Its module.
        name: What `python -m` calls it.
        arguments: What is typed after the name.
    """

    module: ModuleType
    name: str
    arguments: list[str]


_commands: list[Running] = []


def running() -> Running:
    """Returns the running command."""
    return _commands[-1]


@contextlib.contextmanager
def running_command(define_flags: Callable[[], None], arguments: Sequence[str]) -> Iterator[None]:
    """Defines a command's flags in a context; the next command may define the same names.

    Args:
        define_flags: Defines them, with absl.
        arguments: What is typed after the command's name.
    """
    module = sys.modules[define_flags.__module__]
    spec = module.__spec__  # None where the file is run, not the module
    name = spec.name if spec else f"scripts.{Path(module.__file__).stem}"
    before = set(FLAGS)
    _commands.append(Running(module, name, list(arguments)))
    try:
        define_flags()
        own = set(FLAGS) - before  # libraries that are imported later define others
        yield
    finally:
        _commands.pop()
        for flag in before:
            if FLAGS[flag].present:  # --verbosity
                FLAGS[flag].unparse()
        for flag in own:
            delattr(FLAGS, flag)


def no_flagfile(argv: Sequence[str], error: flags.CantOpenFlagFileError) -> str:
    """Says which flag file cannot be read, and suggests a recipe."""
    reason = error.__context__
    given = [argument.partition("=")[2] for argument in argv if "flagfile=" in argument]
    name = getattr(reason, "filename", None) or "".join(given[-1:])
    recipes = {path.stem: _short(path) for path in sorted(_RECIPES.glob("*.flags"))}
    meant = recipes.get(Path(name).stem)
    offer = f"did you mean {meant}?" if meant else f"recipes: {', '.join(recipes.values())}"
    return f"--flagfile={name!s:.80}: {getattr(reason, 'strerror', None) or 'not found'}; {offer}"


def _short(path: Path) -> str:
    """Writes a path as it is typed in the current folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def dashed_texts(argv: list[str]) -> dict[int, str]:
    """Finds arguments that begin with a dash and cannot be flags, such as "-1 out of 10".

    Returns:
        Stand-ins for them while flags are parsed, by position. They contain a zero byte, which no
        argument can contain.
    """
    places = {}
    for number, argument in enumerate(argv[1:], start=1):
        if argument == "--":
            break
        name = argv[number - 1].lstrip("-")
        is_value = argv[number - 1].startswith("-") and name in FLAGS and not FLAGS[name].boolean
        if argument.startswith("-") and not is_value and not _FLAG.fullmatch(argument):
            places[number] = f"\0{number}"
    return places
