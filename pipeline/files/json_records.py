"""JSON Lines and JSON arrays as records."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, UserError
from pipeline.files.decoding import Content, open_text

_log = logging.getLogger(__name__)

_HALF = re.compile("[\ud800-\udfff]")
_BETWEEN = re.compile(r"[ \t\r\n]*")


def read_objects(path: Path, content: Content) -> Iterator[tuple[int, dict | None]]:
    r"""Reads the objects of a file with their first lines; None for what is not an object.

    Unpaired surrogates (`\ud83d` alone) become U+FFFD; a warning counts them.

    Args:
        path: An object a line, or one array of objects.
        content: The file's encoding.

    Raises:
        UserError: A .json file is neither.
        RunError: An array is damaged.
    """
    with open_text(path, content.encoding) as file:
        first = next((line for line in file if line.strip()), "")
    is_array = first.lstrip().startswith("[") and not _is_one_of_lines(path, content, first)
    if not is_array and ".json" in path.suffixes and not isinstance(_parsed(first), dict):
        raise UserError(
            f"{path} is neither an array of JSON objects nor one object per line; write one of "
            "these, or CSV"
        )
    halves = 0
    for line, value in _elements(path, content) if is_array else _lines(path, content):
        try:
            record, found = _mend(value) if isinstance(value, dict) else (None, 0)
        except RecursionError:  # nested nearly as deep as the parser allows
            record, found = None, 0
        halves += found
        yield line, record
    if halves:
        _log.warning("%s: %d unpaired surrogates are read as U+FFFD", path, halves)


def _is_one_of_lines(path: Path, content: Content, first: str) -> bool:
    """Says whether an array on the first line is a row, because another row follows it."""
    if _parsed(first) is None:
        return False
    with open_text(path, content.encoding) as file:
        return sum(1 for line in file if line.strip()) > 1


def _lines(path: Path, content: Content) -> Iterator[tuple[int, Any]]:
    with open_text(path, content.encoding) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _parsed(line)


def _elements(path: Path, content: Content) -> Iterator[tuple[int, Any]]:
    """Reads the elements of an array; the whole file is in memory."""
    with open_text(path, content.encoding) as file:
        text = file.read()
    decoder = json.JSONDecoder(parse_constant=_constant)
    position, line = text.index("[") + 1, 1
    counted = 0
    is_first = True
    while True:
        position = _BETWEEN.match(text, position).end()
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]" and is_first:
            break
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}:{line}: the JSON array is damaged here") from error
        yield line, value
        is_first = False
        position = _BETWEEN.match(text, position).end()
        mark = text[position : position + 1]
        if mark == "]":
            break
        if mark != ",":
            raise RunError(f"{path}:{line}: the JSON array is damaged after this element")
        position += 1
    if text[position + 1 :].strip():
        raise RunError(f"{path}: more follows the end of the JSON array in line {line}")


def _parsed(line: str) -> Any:  # noqa: ANN401 JSON is of any type
    """Parses a line of JSON; None if it is not JSON."""
    try:
        return json.loads(line, parse_constant=_constant)
    except (ValueError, RecursionError):
        return None


def _constant(name: str) -> None:
    """Reads NaN, which Python writes for what is missing, as null; infinities are not JSON."""
    if name != "NaN":
        raise ValueError(f"{name} is not JSON")


def _mend(value: Any) -> tuple[Any, int]:  # noqa: ANN401 JSON is of any type
    """Replaces unpaired surrogates in a JSON value; also returns how many there were."""
    if isinstance(value, str):
        return _HALF.subn("\ufffd", value)
    if isinstance(value, list):
        parts = [_mend(part) for part in value]
        return [part for part, _ in parts], sum(found for _, found in parts)
    if isinstance(value, dict):
        keys, values = _mend(list(value)), _mend(list(value.values()))
        return dict(zip(keys[0], values[0], strict=True)), keys[1] + values[1]
    return value, 0
