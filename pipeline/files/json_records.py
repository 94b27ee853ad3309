"""Reads JSON Lines and JSON arrays as records."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, UserError
from pipeline.files.decoding import FileScan, open_text
from pipeline.files.file_format import Record

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_objects(path: Path, scan: FileScan) -> Iterator[tuple[int, Record | None]]:
    r"""Yields the line and the object of each JSON value of a file; None for a non-object.

    The file has one object per line, or one array of objects, whose elements are numbered instead.
    Unpaired surrogates (`\ud83d` alone) in texts become U+FFFD.

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
    for number, value in _elements(path, scan) if is_array else _lines(path, scan):
        yield number, _replace_surrogates(value) if isinstance(value, dict) else None


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
    """Yields the number, from 1, and the value of each element; reads the whole file at once."""
    try:
        with open_text(path, scan.encoding) as file:
            values = json.load(file, parse_float=_parse_float, parse_constant=_parse_constant)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: the JSON array is damaged: {error}") from error
    yield from enumerate(values, start=1)


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


def _replace_surrogates(record: Record) -> Record:
    """Replaces unpaired surrogates in strings by U+FFFD; lists and objects are left as they are."""
    return {
        name: _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else value
        for name, value in record.items()
    }
