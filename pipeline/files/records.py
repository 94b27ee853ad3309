"""Finds the user's files and reads their records: CSV, TSV, JSON Lines, JSON or Parquet."""

from __future__ import annotations

import contextlib
import csv
import glob
import itertools
import json
import logging
import lzma
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import DATASETS
from pipeline.errors import RunError, UserError, quote, shorten
from pipeline.files.decoding import COMPRESSED, scan_file
from pipeline.files.file_format import AUTO, FileFormat, Record
from pipeline.files.json_records import read_objects
from pipeline.files.parquet import read_parquet
from pipeline.files.paths import expand_home
from pipeline.files.tables import COLUMN_FLAGS, detect_table

_Records = Iterator[tuple[int, Record | None]]

_TABLES = (".csv", ".tsv")
PARQUET = ".parquet"
SUFFIXES = (*_TABLES, ".jsonl", ".ndjson", ".json", PARQUET)
# The suffixes of files that may have rows, but are not read.
_UNREAD_DATA = (
    *(".arrow", ".feather", ".xlsx", ".xls", ".ods", ".zip", ".zst", ".7z", ".tar"),
    *(".tgz", ".db", ".sqlite", ".tab", ".psv", ".jsonlines", ".jl"),
)
SUFFIX_LIST = ".csv, .tsv, .jsonl, .parquet"  # for messages

_log = logging.getLogger(__name__)


def find_files(name: str) -> list[Path]:
    """Returns the files in a folder, the files that match a pattern, or a single file.

    In folders and patterns, hidden files and the folders of runs are skipped. Links to folders are
    followed, but each folder is read once.

    Raises:
        UserError: There is no file, or a file is neither a table nor JSON.
    """
    path = expand_home(name)
    if path.is_dir():
        if _is_run(path):
            raise UserError(
                f"{path} is the folder of a run, not of data; name the folder of the data"
            )
        found = _list_folder(path)
    elif path.exists():
        found = [path]
    else:
        found = _expand(str(path))
    if not found:
        raise UserError(
            f"--dataset={shorten(name)} is neither the name of a data set ({', '.join(DATASETS)}) "
            f"nor a file, folder or pattern of {SUFFIX_LIST} files"
        )
    for file in found:
        _check_kind(file)
    return sorted(_without_copies(file.absolute() for file in found))


def read_records(
    path: Path,
    needed: Sequence[str],
    file_format: FileFormat = AUTO,
    flags: Sequence[str] = COLUMN_FLAGS,
) -> _Records:
    """Checks a file and detects its format, and returns an iterator over its records.

    The iterator yields line numbers (in Parquet and JSON arrays: row numbers) and records; None for
    a JSON value other than an object. In a record of a table, missing columns are None, and fields
    beyond the header's width are a list under the key None.

    Args:
        path: CSV, TSV, JSON Lines, JSON or Parquet, by its suffix.
        needed: The columns that a table or a Parquet file must have; empty names are ignored.
        file_format: The format of the file.
        flags: The flags that name columns, for messages.

    Raises:
        UserError: The file has another format, encoding or quoting, or lacks a needed column.
        RunError: The file cannot be read. The iterator raises it too.
    """
    columns, suffix = list(dict.fromkeys(filter(None, needed))), data_suffix(path)
    if suffix not in _TABLES and (file_format.delimiter, file_format.quoting) != ("auto", "auto"):
        _log.info("%s is not CSV or TSV: --delimiter and --quoting do not change it", path)
    with translate_read_errors(path):
        if suffix == PARQUET:
            records: _Records = read_parquet(path, columns, file_format)
        elif suffix in _TABLES:
            scan = scan_file(path, file_format)
            records = detect_table(path, scan, columns, file_format, flags).records()
        else:
            records = read_objects(path, scan_file(path, file_format))
    return _translate_errors(path, records)


def _translate_errors(path: Path, records: _Records) -> _Records:
    with translate_read_errors(path):
        yield from records


_PARSE_ERRORS = (ValueError, NotImplementedError)  # NotImplementedError: damage that pyarrow finds


@contextlib.contextmanager
def translate_read_errors(path: Path) -> Iterator[None]:
    """Translates read errors into a RunError that names the file.

    Raises:
        RunError: The file cannot be read, decompressed, decoded or parsed.
    """
    try:
        yield
    except (OSError, EOFError, csv.Error, zlib.error, lzma.LZMAError, *_PARSE_ERRORS) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        kind = " as Parquet, which its name says" if data_suffix(path) == PARQUET else ""
        raise RunError(f"{path} cannot be read{kind}: {shorten(reason, 200)}") from error


def data_suffix(path: Path) -> str:
    """Returns the suffix of a file in lower case, without compression: `.csv` of `A.CSV.gz`."""
    path = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return path.suffix.lower()


def _check_kind(file: Path) -> None:
    """Checks that a file is a regular file with a known suffix."""
    if data_suffix(file) not in SUFFIXES:
        raise UserError(
            f"{file} is not one of {SUFFIX_LIST}, plain or compressed (.gz, .bz2, .xz); if it has "
            "such content, rename it"
        )
    if not file.exists():
        raise UserError(f"{file} is a link to a missing file; remove the link, or restore the file")
    if not file.is_file():
        raise UserError(f"{file} is a pipe or device; data is read more than once, so name a file")


def _list_folder(folder: Path) -> list[Path]:
    """Returns the files with examples in a folder, and logs the other data files."""
    files = list(_files_below(folder))
    found = [file for file in files if data_suffix(file) in SUFFIXES]
    unread = sorted(file for file in files if data_suffix(file) in _UNREAD_DATA)
    if found and unread:
        _log.info(
            "skipped %d files of %s that may have rows, such as %s; to train on them, export them "
            "as .csv, .tsv, .jsonl or .parquet",
            len(unread),
            folder,
            quote(unread[0].name),
        )
    # Next to other files, a .json file describes the data set, such as dataset_info.json.
    json_files = [file for file in found if data_suffix(file) == ".json"]
    if json_files and len(json_files) < len(found):
        _log.info(
            "skipped %d .json files in %s; if they have examples, name them by a pattern",
            len(json_files),
            folder,
        )
        return [file for file in found if file not in json_files]
    return found


def _expand(pattern: str) -> list[Path]:
    """Returns the files that match a pattern, without hidden files and files of runs."""
    parts = Path(pattern).parts
    fixed = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    # Path.glob accepts no absolute pattern. glob skips hidden names.
    found = (Path(file) for file in glob.glob(pattern, recursive=True))  # noqa: PTH207
    files = [file for file in found if not file.is_dir()]
    folders = {folder for file in files for folder in file.parents}
    below = (folder for folder in folders if folder != fixed and folder.is_relative_to(fixed))
    runs = set(filter(_is_run, below))
    for folder in sorted(runs):
        _log_run(folder)
    return [file for file in files if runs.isdisjoint(file.parents)]


def _files_below(root: Path) -> Iterator[Path]:
    """Yields the files below a folder, without hidden files and files of runs."""
    seen: set[Path] = set()
    for place, names, files in os.walk(root, followlinks=True):
        folder = Path(place)
        is_seen = folder.resolve() in seen
        seen.add(folder.resolve())
        if is_seen or (folder != root and _is_run(folder)):
            if not is_seen:
                _log_run(folder)
            names.clear()
            continue
        names[:] = (name for name in names if not name.startswith("."))
        names.sort(key=lambda name: ((folder / name).is_symlink(), name))  # links are followed last
        yield from (folder / name for name in files if not name.startswith("."))


def _is_run(folder: Path) -> bool:
    """Returns whether a folder is a model_dir."""
    try:
        content = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "settings" in content


def _log_run(folder: Path) -> None:
    _log.info("skipped %s: it is the folder of a run", folder)


def _without_copies(files: Iterator[Path]) -> Iterator[Path]:
    """Yields the files without links to other files of the list."""
    by_target: dict[Path, Path] = {}
    for file in sorted(files, key=lambda file: (file.is_symlink(), file)):
        first = by_target.setdefault(file.resolve(), file)
        if first is file:
            yield file
        else:
            _log.info("skipped %s: it is a link to %s", quote(str(file)), quote(str(first)))
