"""Reads Parquet files as records, through pyarrow, which is imported only if there is a file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError, quote, shorten
from pipeline.files.file_format import SPLIT_COLUMNS, FileFormat, Record

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_ROWS, _BUFFER = 1024, 1 << 20  # rows, and bytes of a column, that are read at once


def read_parquet(
    path: Path, needed: Sequence[str], file_format: FileFormat
) -> Iterator[tuple[int, Record]]:
    """Yields the number, from 1, and the record of each row: needed columns, and those of splits.

    Integers that have names in the file, as the labels of Hugging Face's data sets, become these
    names, and -1 becomes None. Bytes are decoded by the encoding of the format; None if invalid.

    Raises:
        UserError: The file lacks a needed column, or has it twice.
        OSError, ValueError: The file is damaged.
    """
    file = _open(path)
    columns = file.schema_arrow.names
    if not columns:
        raise UserError(f"{path} has no columns; check how it was written")
    for name in needed:
        if (count := columns.count(name)) != 1:
            found = shorten(", ".join(map(quote, columns[:20])), 200)
            if count:
                raise UserError(f"{path} has {count} columns {quote(name)}; rename the others")
            raise UserError(
                f"{path} has no column {quote(name)}, but {found}; name one with --text_column or "
                "--label_column (no commas in names)"
            )
    encoding = "utf-8" if file_format.encoding == "auto" else file_format.encoding
    names = _names_of_integers(file)
    wanted = [name for name in columns if name in needed or name.lower() in SPLIT_COLUMNS]
    for number, row in enumerate(_rows(file, wanted), start=1):
        yield number, {key: _convert(row[key], names.get(key), encoding) for key in row}


def _rows(file: ParquetFile, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Yields all rows. pyarrow keeps row groups that it has read until their iterator ends."""
    groups: list[int] = []
    size = missing = 0  # bytes and rows of `groups`
    for group in range(count := file.num_row_groups):
        metadata = file.metadata.row_group(group)
        groups.append(group)
        size, missing = size + metadata.total_byte_size, missing + metadata.num_rows
        if size < _BUFFER and group < count - 1:
            continue  # an iterator for each tiny group would take long
        try:
            for batch in file.iter_batches(_ROWS, row_groups=groups, columns=columns):
                missing -= len(batch)
                yield from batch.to_pylist()
        except IndexError as error:  # a wrong index into a dictionary of values
            raise ValueError(str(error)) from error
        if missing:  # pyarrow yields nothing for a group if all columns are damaged in the same way
            raise ValueError(f"it should have {missing} more rows up to row group {group}")
        groups, size = [], 0


def read_class_names(path: Path, column: str) -> list[str]:
    """Returns the names of the integers 0, 1, … in a column of a file; empty if they have none.

    Raises:
        OSError, ValueError: The file is damaged.
    """
    return _names_of_integers(_open(path)).get(column, [])


def _open(path: Path) -> ParquetFile:
    from pyarrow.parquet import ParquetFile

    return ParquetFile(path, buffer_size=_BUFFER, page_checksum_verification=True)


def _names_of_integers(file: ParquetFile) -> dict[str, list[str]]:
    """Returns the class names that Hugging Face's library stores in a schema, by column."""
    metadata = file.schema_arrow.metadata or {}
    with contextlib.suppress(KeyError, ValueError, TypeError, AttributeError):  # no names
        return {
            column: [str(name).strip() for name in feature["names"]]
            for column, feature in json.loads(metadata[b"huggingface"])["info"]["features"].items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    return {}


def _convert(value: Any, names: list[str] | None, encoding: str) -> Any:  # noqa: ANN401 of any type
    """Converts a value to a type of JSON."""
    if isinstance(value, str):  # the usual type, first
        return value
    if names and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    if isinstance(value, bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return value.decode(encoding)
        return None
    is_json = value is None or isinstance(value, int | float | list | dict)
    return value if is_json else str(value)  # such as a date
