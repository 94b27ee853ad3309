"""Parses the command line: flags, flag files, texts that begin with a dash, and --help."""

from __future__ import annotations

import dataclasses
import re
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from absl import flags

from pipeline.errors import UserError, quote, shorten
from scripts.cli.flags import FLAGS
from trainer.config import GROUPS, TrainConfig

_RECIPES = Path(__file__).parents[1] / "recipes"
_FLAG = re.compile(r"--?[A-Za-z_]\w*(=.*)?|-+", re.DOTALL)
_TUPLE = re.compile(r"\('([^']*)', '.*'\)")  # which absl prints for a flag that is not a boolean
_MARK = "\0"  # before a text that begins with a dash; no argument of a process contains it
_HELP_COLUMN = 34
_MIN_HELP_WIDTH, _MAX_HELP_WIDTH = 80, 120
_MAX_ERROR_LENGTH = 200


def parse_flags(argv: list[str], *, takes_texts: bool) -> list[str]:
    """Parses the flags.

    Args:
        argv: The name of the command and its arguments.
        takes_texts: Whether there may be texts besides the flags.

    Returns:
        The name and the texts.

    Raises:
        UserError: A flag or a flag file cannot be used, or an argument is neither flag nor text.
    """
    for argument in argv[1:]:
        is_text = takes_texts and not argument.startswith("-")
        if not is_text and argument.encode(errors="ignore").decode() != argument:
            raise UserError(f"{quote(argument)} is not UTF-8; rename the file or folder")
    try:
        rest = FLAGS(_mark_dashed_texts(argv) if takes_texts else argv)
    except flags.CantOpenFlagFileError as error:
        raise UserError(_describe_flagfile_error(error)) from error
    except UnicodeDecodeError as error:
        raise UserError("a --flagfile is not text in UTF-8; name a file with flags") from error
    except flags.Error as error:
        message = _TUPLE.sub(r"\1", " ".join(str(error).split()))
        message = shorten(message, _MAX_ERROR_LENGTH)
        hint = "; put -- before a text that begins with a dash" if takes_texts else ""
        raise UserError(f"{message}; --help lists the flags{hint}") from error
    if rest[1:] and not takes_texts:
        raise UserError(f"{quote(rest[1])} is not a flag; write --name=value")
    return [argument.removeprefix(_MARK) for argument in rest]


def format_help(module: ModuleType) -> str:
    """Returns the help text of a command, with its settings in groups."""
    settings = {field.name for field in dataclasses.fields(TrainConfig)}
    defined = FLAGS.get_key_flags_for_module(module)
    lines = [(module.__doc__ or "").strip(), ""]
    lines.append(_format_flag("flagfile", "", "read flags from a file, such as a recipe"))
    for flag in sorted(defined, key=lambda flag: flag.name in settings):
        if flag.name in GROUPS and len(defined) > len(GROUPS):
            lines += ["", f"{GROUPS[flag.name]}:"]
        lines.append(_format_flag(flag.name, flag.default, flag.help or ""))
    lines += ["", _format_flag("verbosity", 0, "-1: only warnings and errors; 1: debug messages")]
    return "\n".join([*lines, "--helpfull also lists the flags of the libraries."])


def _format_flag(name: str, default: object, help_text: str) -> str:
    """Formats a flag with its default, and its help text in the next column."""
    value = ",".join(default) if isinstance(default, list) else default
    start = f"  --{name}={'' if value is None else value}"
    width = min(max(shutil.get_terminal_size().columns, _MIN_HELP_WIDTH), _MAX_HELP_WIDTH)
    indent = " " * _HELP_COLUMN
    column = textwrap.fill(help_text, width, initial_indent=indent, subsequent_indent=indent)
    if len(start) > _HELP_COLUMN - 2:
        return f"{start}\n{column}"
    return start + column[len(start) :]


def _describe_flagfile_error(error: flags.CantOpenFlagFileError) -> str:
    """Returns the error message for a flag file that cannot be opened, and suggests a recipe."""
    cause = error.__context__
    assert isinstance(cause, OSError)
    folder = _RECIPES.relative_to(Path.cwd()) if _RECIPES.is_relative_to(Path.cwd()) else _RECIPES
    recipes = {path.stem: str(folder / path.name) for path in sorted(_RECIPES.glob("*.flags"))}
    recipe = recipes.get(Path(cause.filename).stem)
    hint = f"did you mean {recipe}?" if recipe else f"recipes: {', '.join(recipes.values())}"
    return f"--flagfile={cause.filename:.80}: {cause.strerror}; {hint}"


def _mark_dashed_texts(argv: Sequence[str]) -> list[str]:
    """Marks arguments that begin with a dash but cannot be flags, such as "-1 out of 10"."""
    marked = list(argv)
    for position, argument in enumerate(argv[1:], start=1):
        if argument == "--":
            break
        previous = argv[position - 1]
        name = previous.lstrip("-")
        is_value = previous.startswith("-") and name in FLAGS and not FLAGS[name].boolean
        if argument.startswith("-") and not is_value and not _FLAG.fullmatch(argument):
            marked[position] = _MARK + argument
    return marked
