"""Reads CSV and TSV files as records, with one delimiter and one quoting for the whole file."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import logging
import math
import re
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from pipeline.errors import UserError, quote, shorten
from pipeline.files.decoding import FileScan, open_text
from pipeline.files.file_format import FileFormat, Record

COLUMN_FLAGS = ("text_column", "label_column", "split_column")

_log = logging.getLogger(__name__)

DELIMITERS = (",", "\t", ";", "|")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*')  # Excel's, before the header

csv.field_size_limit(sys.maxsize)


@dataclasses.dataclass(frozen=True)
class Table:
    """A CSV or TSV file and its format."""

    path: Path
    scan: FileScan
    delimiter: str
    is_quoted: bool  # whether quotes enclose fields; if not, they belong to the text
    skipped: int  # lines before the header

    def rows(self) -> Generator[tuple[int, list[str]], None, None]:
        """Yields the last line number and the fields of each row, header included, without blanks.

        Raises:
            csv.Error: No delimiter follows a quoted field.
        """
        with open_text(self.path, self.scan.encoding) as file:
            for _ in range(self.skipped):
                file.readline()
            reader = csv.reader(
                file,
                delimiter=self.delimiter,
                quoting=csv.QUOTE_MINIMAL if self.is_quoted else csv.QUOTE_NONE,
                strict=True,
            )
            width = 0
            for row in reader:
                is_blank = not row or (len(row) == 1 and width != 1 and not row[0].strip())
                if not is_blank:
                    width = width or len(row)
                    yield reader.line_num + self.skipped, row

    def header(self) -> list[str]:
        """Returns the names of the columns; an empty list if there is no header."""
        with contextlib.closing(self.rows()) as rows, contextlib.suppress(csv.Error):
            return [name.strip() for name in next(rows, (0, []))[1]]
        return []

    def records(self) -> Iterator[tuple[int, Record]]:
        """Yields the last line number and the record of each row below the header.

        Missing columns are None. Excess fields are a list under the key None.
        """
        rows = self.rows()
        names = [name.strip() for name in next(rows, (0, []))[1]]
        for line, row in rows:
            record: Record = dict(zip(names, row, strict=False))
            if len(row) < len(names):
                record.update(dict.fromkeys(names[len(row) :]))
            elif len(row) > len(names):
                record[None] = row[len(names) :]
            yield line, record


@dataclasses.dataclass
class _Survey:
    """Statistics of a table that was read in one format."""

    table: Table
    width: int = 0  # columns in the header
    rows: int = 0  # below the header
    ragged: int = 0  # rows that are wider or narrower than the header
    has_enclosed: bool = False  # whether a field begins with a quote
    open_quote: int = 0  # the line of a row with a quoted field that does not end; 0 for none


def detect_table(
    path: Path, scan: FileScan, needed: Sequence[str], file_format: FileFormat, flags: Sequence[str]
) -> Table:
    """Detects the format of a table by reading all of it; with the suffix .tsv, tries a tab first.

    The table must have the needed columns. Messages name the flags, which name columns.

    Raises:
        UserError: A needed column is missing or occurs twice, or a quoted field does not end.
    """
    prefers_tab = ".tsv" in path.suffixes
    tables = _candidates(path, scan, file_format, prefers_tab=prefers_tab)
    fitting = [table for table in tables if set(needed) <= set(table.header())]
    if not fitting:
        raise _missing_column_error(tables, needed, flags)
    header = fitting[0].header()
    for name in needed:
        if header.count(name) > 1:
            raise UserError(
                f"{path} has {header.count(name)} columns {quote(name)}; rename the others"
            )
    if len(fitting) == 1 and (not scan.has_quotes or not fitting[0].is_quoted):
        best = _Survey(fitting[0])
    else:
        best = _best(fitting, is_tab=prefers_tab)
    if best.open_quote:
        raise UserError(
            f'{path}:{best.open_quote}: a " opens a field that does not end before a delimiter; '
            'write "" for a quote in a quoted field, or add --quoting=none if quotes belong to '
            "the texts"
        )
    _log_choice(best, tables[0], file_format)
    return best.table


def _candidates(
    path: Path, scan: FileScan, file_format: FileFormat, *, prefers_tab: bool
) -> list[Table]:
    """Returns the formats that a file may have, the most likely first."""
    with open_text(path, scan.encoding) as file:
        first = file.readline(16)
    if not first:
        raise UserError(f"{path} is empty")
    separator_line = _SEPARATOR_LINE.fullmatch(first)
    delimiters: Sequence[str] = DELIMITERS
    if file_format.separator:
        delimiters = [file_format.separator]
    elif separator_line:
        delimiters = [separator_line[1]]
    elif prefers_tab:
        delimiters = sorted(DELIMITERS, key=lambda delimiter: delimiter != "\t")
    quotings = {"csv": [True], "none": [False]}.get(file_format.quoting, [True, False])
    if not scan.has_quotes:
        quotings = quotings[:1]
    skipped = int(bool(separator_line))
    return [Table(path, scan, d, is_quoted, skipped) for d in delimiters for is_quoted in quotings]


def _best(tables: Sequence[Table], *, is_tab: bool) -> _Survey:
    """Chooses the delimiter and the quoting with the fewest ragged rows."""
    found: list[_Survey] = []
    for delimiter in dict.fromkeys(table.delimiter for table in tables):
        first, *second = (table for table in tables if table.delimiter == delimiter)
        survey = _survey(first)
        if second:
            limit = math.inf if survey.open_quote else survey.ragged
            plain = _survey(second[0], max_ragged=limit)
            survey = _choose_quoting(survey, plain, is_tab=is_tab)
        if not survey.ragged and not survey.open_quote:
            return survey
        found.append(survey)
    return min(found, key=lambda survey: (survey.open_quote > 0, survey.ragged))


def _choose_quoting(quoted: _Survey, plain: _Survey, *, is_tab: bool) -> _Survey:
    """Chooses whether quotes enclose fields or belong to the text."""
    quoted.has_enclosed = plain.has_enclosed
    if quoted.open_quote:
        return plain if is_tab or not plain.ragged else quoted
    # Two stray quotes may form a pair that hides the rows between them. Those rows have as many
    # fields as the header. The lines inside a field that is really quoted rarely do.
    loses_lines = quoted.rows < plain.rows and plain.width > 1
    if plain.ragged < quoted.ragged or (loses_lines and plain.ragged == quoted.ragged):
        return plain
    return quoted


def _survey(table: Table, max_ragged: float = math.inf) -> _Survey:
    """Reads a table in one format, and returns its statistics.

    Stops early if more than `max_ragged` rows are ragged, because the format is then not chosen;
    but only after a field that starts with a quote, because `_choose_quoting` reads `has_enclosed`.
    """
    survey, last_line = _Survey(table), table.skipped
    try:
        for line, row in table.rows():
            last_line = line
            if not survey.width:
                survey.width = len(row)
                continue
            survey.rows += 1
            survey.ragged += len(row) != survey.width
            if not table.is_quoted and not survey.has_enclosed:
                survey.has_enclosed = any(field.startswith('"') for field in row)
            if survey.ragged > max_ragged and survey.has_enclosed:
                break
    except csv.Error:
        survey.open_quote = last_line + 1
    return survey


def _missing_column_error(
    tables: Sequence[Table], needed: Sequence[str], flags: Sequence[str]
) -> UserError:
    """Returns the error for a table that lacks a needed column in every format."""
    headers = [table.header() for table in tables]
    if not any(headers):
        return UserError(f"{tables[0].path} has no row that names the columns; write one first")
    header = headers[0] if len(headers[0]) > 1 else max(headers, key=len)
    column = next((name for name in needed if name not in header), needed[0])
    names = ", ".join(f"--{flag}" for flag in flags)
    found = shorten(", ".join(map(quote, header[:20])), 200)
    return UserError(
        f"{tables[0].path} has no column {quote(column)}, but {found}; does its first line name "
        f"the columns? Name them with {names}, and the delimiter with --delimiter (no name may "
        "have a comma)"
    )


def _log_choice(chosen: _Survey, usual: Table, file_format: FileFormat) -> None:
    """Logs an unusual delimiter, and a choice of quoting that changes the texts."""
    table = chosen.table
    if table.delimiter != usual.delimiter or table.skipped:
        name = "tab" if table.delimiter == "\t" else f"'{table.delimiter}'"
        _log.info("%s: the delimiter is %s", table.path, name)
    if file_format.quoting != "auto" or not table.scan.has_quotes:
        return
    if not table.is_quoted:
        _log.info(
            "%s: quotes belong to the text; if they enclose fields: --quoting=csv", table.path
        )
    elif chosen.has_enclosed and table.delimiter == "\t":
        _log.info(
            "%s: quotes enclose fields; if they belong to the text: --quoting=none", table.path
        )
