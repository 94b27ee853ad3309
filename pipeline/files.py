"""The files that people bring: CSV, TSV or JSON Lines, gzipped or not, as records and texts."""

from __future__ import annotations

import contextlib
import csv
import glob
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.errors import Fault, Mistake
from pipeline.file_format import AUTO, FileFormat

_SUFFIXES = (".csv", ".tsv", ".jsonl")


def find_files(name: str) -> list[Path]:
    """Lists the files that a name stands for."""
    path = Path(name).expanduser()
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.is_file() and _kind(file) in _SUFFIXES]
    elif path.is_file():
        found = [path]
    else:
        # Path.glob takes no absolute pattern.
        found = [Path(file) for file in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    if not found:
        raise Mistake(
            f"--dataset={name} is no data set that has a name (imdb_reviews, imdb_offline), and no "
            f"file, folder or pattern with {', '.join(_SUFFIXES)} files"
        )
    for file in found:
        if _kind(file) not in _SUFFIXES:
            raise Mistake(
                f"{file} is none of {', '.join(_SUFFIXES)}, nor one of these with .gz after it; "
                "rename it if it is one by its content"
            )
    return sorted(file.absolute() for file in found)


def read_records(
    path: Path,
    needed: Sequence[str],
    file_format: FileFormat = AUTO,  # noqa: ARG001 the readers take it next
) -> Iterator[tuple[int, dict | None]]:
    """Reads a file's records and the lines that they end on; None is what is no record.

    Args:
        path: CSV, TSV or JSON Lines.
        needed: The columns that a table must have; empty names are ignored.
        file_format: How the file is written.

    Raises:
        Mistake: The header lacks a needed column.
    """
    with _open(path) as file:
        if _kind(path) == ".jsonl":
            yield from _objects(file)
            return
        csv.field_size_limit(sys.maxsize)
        reader = csv.DictReader(file, delimiter="\t" if _kind(path) == ".tsv" else ",")
        header = reader.fieldnames or []
        for column in needed:
            if column and column not in header:
                raise Mistake(
                    f"{path} has no column {column!r}, but {', '.join(map(repr, header))}; name "
                    "the columns by --text_column, --label_column and --split_column"
                )
        for record in reader:
            yield reader.line_num, record


def read_texts(path: Path, column: str) -> Iterator[bytes]:
    """Reads texts without labels, in their order, as they stream by.

    Args:
        path: CSV, TSV or JSON Lines; any other file has a text a line.
        column: That of the text.

    Raises:
        Mistake: A row has no text; the message names its line.
        Fault: The file cannot be read.
    """
    with translate_read_errors(path):
        if _kind(path) not in _SUFFIXES:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                yield from (line.removesuffix(b"\n").removesuffix(b"\r") for line in file)
            return
        for line, record in read_records(path, [column]):
            text = (record or {}).get(column)
            if not isinstance(text, str):
                raise Mistake(
                    f"{path}:{line}: no text in {column!r}; is --text_column={column} right?"
                )
            yield text.encode("utf-8", "surrogateescape")


@contextlib.contextmanager
def translate_read_errors(path: Path) -> Iterator[None]:
    """Turns what is raised while a file is read into a Fault that names the file."""
    try:
        yield
    except (OSError, EOFError, csv.Error, zlib.error) as error:
        raise Fault(f"{path} cannot be read: {error}") from error


def _kind(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _open(path: Path) -> io.TextIOBase:
    # utf-8-sig: Excel writes a mark at the beginning. Bytes that are no UTF-8 are kept.
    options = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    return gzip.open(path, "rt", **options) if path.suffix == ".gz" else path.open("r", **options)


def _objects(lines: Iterable[str]) -> Iterator[tuple[int, dict | None]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        yield number, record if isinstance(record, dict) else None
