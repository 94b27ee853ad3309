"""Parses the command line: flags, flag files, texts that begin with a dash, and --help."""

from __future__ import annotations

import dataclasses
import re
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from pipeline.errors import UserError, quote, shorten
from scripts.cli.flags import FLAGS
from scripts.cli.running import running_command
from trainer.config import GROUPS, TrainConfig

_RECIPES = Path(__file__).parents[1] / "recipes"
_FLAG = re.compile(r"--?[A-Za-z_]\w*(=.*)?|-+", re.DOTALL)
_HELP_COLUMN = 34
_HELP_WIDTHS = (80, 120)  # minimum and maximum
_MAX_ERROR_LENGTH = 200


def is_help(argv: Sequence[str]) -> bool:
    """Returns whether the command line contains --help."""
    return any(argument in ("-help", "--help") for argument in argv[1:])


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags.

    Args:
        argv: The name of the command and its arguments.

    Returns:
        The name and the arguments that are not flags.

    Raises:
        UserError: A flag or a flag file cannot be used.
    """
    takes_texts = getattr(running_command().module, "TAKES_TEXTS", False)
    texts = _find_dashed_texts(argv) if takes_texts else {}
    try:
        rest = FLAGS([texts.get(position, argument) for position, argument in enumerate(argv)])
    except flags.CantOpenFlagFileError as error:
        raise UserError(_describe_flagfile_error(argv, error)) from error
    except flags.Error as error:
        message = shorten(" ".join(str(error).split()), _MAX_ERROR_LENGTH)
        hint = "; put -- before a text that begins with a dash" if takes_texts else ""
        raise UserError(f"{message}; --help lists the flags{hint}") from error
    originals = {placeholder: argv[position] for position, placeholder in texts.items()}
    return [originals.get(argument, argument) for argument in rest]


def check_no_arguments(arguments: Sequence[str]) -> None:
    """Checks that there are no arguments besides flags.

    Raises:
        UserError: There is such an argument.
    """
    if arguments:
        raise UserError(f"{quote(arguments[0])} is not a flag; write --name=value")


def format_help() -> str:
    """Returns the help text of the running command, with its settings in groups."""
    module = running_command().module
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
    narrowest, widest = _HELP_WIDTHS
    width = min(max(shutil.get_terminal_size().columns, narrowest), widest)
    filled = textwrap.fill(help_text, width - _HELP_COLUMN)
    column = textwrap.indent(filled, " " * _HELP_COLUMN)
    if len(start) > _HELP_COLUMN - 2:
        return f"{start}\n{column}"
    return start + column[len(start) :]


def _describe_flagfile_error(argv: Sequence[str], error: flags.CantOpenFlagFileError) -> str:
    """Returns the error message for a flag file that cannot be read, and suggests a recipe."""
    cause = error.__context__
    given = [argument.partition("=")[2] for argument in argv if "flagfile=" in argument]
    name = str(getattr(cause, "filename", None) or "".join(given[-1:]))
    reason = getattr(cause, "strerror", None) or "not found"
    recipes = {path.stem: _relative_path(path) for path in sorted(_RECIPES.glob("*.flags"))}
    recipe = recipes.get(Path(name).stem)
    hint = f"did you mean {recipe}?" if recipe else f"recipes: {', '.join(recipes.values())}"
    return f"--flagfile={name:.80}: {reason}; {hint}"


def _relative_path(path: Path) -> str:
    """Returns a path relative to the current folder, if it is inside."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _find_dashed_texts(argv: Sequence[str]) -> dict[int, str]:
    """Finds arguments that begin with a dash but cannot be flags, such as "-1 out of 10".

    Returns:
        A placeholder for each such argument, by position. absl does not parse it as a flag, and its
        zero byte distinguishes it from all real arguments.
    """
    placeholders = {}
    for position, argument in enumerate(argv[1:], start=1):
        if argument == "--":
            break
        previous = argv[position - 1]
        name = previous.lstrip("-")
        is_value = previous.startswith("-") and name in FLAGS and not FLAGS[name].boolean
        if argument.startswith("-") and not is_value and not _FLAG.fullmatch(argument):
            placeholders[position] = f"\0{position}"
    return placeholders
