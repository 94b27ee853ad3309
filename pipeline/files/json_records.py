"""Reads JSON Lines and JSON arrays as records."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, UserError
from pipeline.files.decoding import FileScan, open_text
from pipeline.files.file_format import Record

_log = logging.getLogger(__name__)

_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"[ \t\r\n]*")


def read_objects(path: Path, scan: FileScan) -> Iterator[tuple[int, Record | None]]:
    r"""Yields the first line and the object of each JSON value of a file; None for a non-object.

    The file has one object per line, or one array of objects. Unpaired surrogates (`\ud83d` alone)
    become U+FFFD; a warning counts them.

    Raises:
        UserError: A .json file has neither form.
        RunError: An array is damaged.
    """
    with open_text(path, scan.encoding) as file:
        first = next((line for line in file if line.strip()), "")
    is_array = first.lstrip().startswith("[") and not _is_first_row(path, scan, first)
    if not is_array and ".json" in path.suffixes and not isinstance(_parse(first), dict):
        raise UserError(
            f"{path} is neither an array of JSON objects nor one object per line; write one of "
            "these, or CSV"
        )
    surrogates = 0
    for line, value in _elements(path, scan) if is_array else _lines(path, scan):
        try:
            record, found = _replace_surrogates(value) if isinstance(value, dict) else (None, 0)
        except RecursionError:  # nested nearly as deep as the parser allows
            record, found = None, 0
        surrogates += found
        yield line, record
    if surrogates:
        _log.warning("%s: %d unpaired surrogates are read as U+FFFD", path, surrogates)


def _is_first_row(path: Path, scan: FileScan, first: str) -> bool:
    """Returns whether an array on the first line is a row: it is complete, and rows follow."""
    if _parse(first) is None:
        return False
    with open_text(path, scan.encoding) as file:
        return sum(1 for line in file if line.strip()) > 1


def _lines(path: Path, scan: FileScan) -> Iterator[tuple[int, Any]]:
    """Yields the line number and the value of each line of JSON Lines."""
    with open_text(path, scan.encoding) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _parse(line)


def _elements(path: Path, scan: FileScan) -> Iterator[tuple[int, Any]]:
    """Yields the line number and the value of each array element; reads the whole file at once."""
    with open_text(path, scan.encoding) as file:
        text = file.read()
    decoder = json.JSONDecoder(parse_float=_parse_float, parse_constant=_parse_constant)
    position = _skip_space(text, text.index("[") + 1)
    line = 1 + text.count("\n", 0, position)
    separator = text[position : position + 1]
    while separator != "]":
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}:{line}: the JSON array is damaged here") from error
        yield line, value
        start, position = position, _skip_space(text, end)
        separator = text[position : position + 1]
        if separator not in ("]", ","):
            raise RunError(f"{path}:{line}: the JSON array is damaged after this element")
        if separator == ",":
            position = _skip_space(text, position + 1)
            line += text.count("\n", start, position)
    if text[position + 1 :].strip():
        raise RunError(f"{path}: more follows the end of the JSON array in line {line}")


def _skip_space(text: str, position: int) -> int:
    """Returns the position of the next character that is not white space, or of the end."""
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]  # also matches nothing


def _parse(line: str) -> Any:  # noqa: ANN401 JSON has any type
    """Parses a line of JSON; returns None if it is not JSON."""
    try:
        return json.loads(line, parse_float=_parse_float, parse_constant=_parse_constant)
    except (ValueError, RecursionError):
        return None


def _parse_float(number: str) -> float:
    """Parses a number; rejects one that is too large for a float, which would become infinite."""
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number} is too large")
    return value


def _parse_constant(name: str) -> None:
    """Parses NaN, which Python writes for missing values, as null; rejects infinities."""
    if name != "NaN":
        raise ValueError(f"{name} is not JSON")


def _replace_surrogates(value: Any) -> tuple[Any, int]:  # noqa: ANN401 JSON has any type
    """Replaces unpaired surrogates in a JSON value by U+FFFD; also returns how many there were."""
    if isinstance(value, str):
        return _SURROGATE.subn("\ufffd", value)
    if isinstance(value, list):
        elements = [_replace_surrogates(element) for element in value]
        return [element for element, _ in elements], sum(found for _, found in elements)
    if isinstance(value, dict):
        keys, values = _replace_surrogates(list(value)), _replace_surrogates(list(value.values()))
        return dict(zip(keys[0], values[0], strict=True)), keys[1] + values[1]
    return value, 0
