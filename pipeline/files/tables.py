"""CSV and TSV files as records: one delimiter and one way of quoting for each whole file."""

from __future__ import annotations

import csv
import dataclasses
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import UserError, cut, shown
from pipeline.files.decoding import Content, open_text
from pipeline.files.file_format import FileFormat

COLUMN_FLAGS = ("text_column", "label_column", "split_column")

_log = logging.getLogger(__name__)

DELIMITERS = (",", "\t", ";", "|")
_NAMES = {"\t": "tab"}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*')  # Excel's, before the header

csv.field_size_limit(sys.maxsize)


@dataclasses.dataclass(frozen=True)
class Table:
    """The format of a table.

    Attributes:
        path: The file.
        content: Its encoding.
        delimiter: What is between columns.
        is_quoted: Whether quotes enclose fields; if not, they are part of the text.
        skipped: Lines before the header.
    """

    path: Path
    content: Content
    delimiter: str
    is_quoted: bool
    skipped: int

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Reads the rows, header first, with the lines that they end on; skips blank rows.

        Raises:
            csv.Error: A quoted field does not end where a field ends.
        """
        quoting = csv.QUOTE_MINIMAL if self.is_quoted else csv.QUOTE_NONE
        with open_text(self.path, self.content.encoding) as file:
            for _ in range(self.skipped):
                file.readline()
            reader = csv.reader(file, delimiter=self.delimiter, quoting=quoting, strict=True)
            width = 0
            for row in reader:
                is_blank = not row or (len(row) == 1 and width != 1 and not row[0].strip())
                if not is_blank:
                    width = width or len(row)
                    yield reader.line_num + self.skipped, row

    def header(self) -> list[str]:
        """Reads the names of the columns; an empty list if there is no row."""
        rows = self.rows()
        try:
            return [name.strip() for name in next(rows, (0, []))[1]]
        except csv.Error:
            return []
        finally:
            rows.close()

    def records(self) -> Iterator[tuple[int, dict]]:
        """Reads the rows below the header as dictionaries by column.

        Missing columns are None. Excess fields are a list under the key None.
        """
        rows = self.rows()
        names = [name.strip() for name in next(rows, (0, []))[1]]
        for line, row in rows:
            record: dict = dict(zip(names, row, strict=False))
            record.update(dict.fromkeys(names[len(row) :]))
            if len(row) > len(names):
                record[None] = row[len(names) :]
            yield line, record


@dataclasses.dataclass
class _Survey:
    """The result of reading a whole table in one format.

    Attributes:
        table: The format.
        width: Columns of the header.
        rows: Rows below the header.
        ragged: Rows that are not as wide as the header.
        has_enclosed: Whether a field begins with a quote.
        open_quote: The line of the row with a quoted field that does not end, or 0.
    """

    table: Table
    width: int = 0
    rows: int = 0
    ragged: int = 0
    has_enclosed: bool = False
    open_quote: int = 0


def recognize(
    path: Path,
    content: Content,
    needed: Sequence[str],
    file_format: FileFormat,
    flags: Sequence[str] = COLUMN_FLAGS,
) -> Table:
    """Detects the format of a table by reading all of it.

    Args:
        path: The file; .tsv makes a tab the first choice.
        content: Its encoding.
        needed: Columns that it must have.
        file_format: The user's settings.
        flags: What messages call the flags that name columns.

    Raises:
        UserError: It lacks a needed column, has one twice, or a quoted field does not end.
    """
    prefers_tab = ".tsv" in path.suffixes
    tables = _candidates(path, content, file_format, prefers_tab=prefers_tab)
    able = [table for table in tables if set(needed) <= set(table.header())]
    if not able:
        raise _no_column(tables, needed, flags)
    _check_twice(able[0], needed)
    if len(able) == 1 and (not content.has_quotes or not able[0].is_quoted):
        best = _Survey(able[0])
    else:
        best = _best(able, is_tab=prefers_tab)
    if best.open_quote:
        raise UserError(
            f'{path}:{best.open_quote}: a " opens a field that does not end before a delimiter; '
            'write "" for a quote in a quoted field, or add --quoting=none if quotes are part of '
            "the texts"
        )
    _log_choice(best, tables[0], file_format)
    return best.table


def _candidates(
    path: Path, content: Content, file_format: FileFormat, *, prefers_tab: bool
) -> list[Table]:
    """Lists the formats that a file may have, the most likely first."""
    with open_text(path, content.encoding) as file:
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
    ways = {"csv": [True], "none": [False]}.get(file_format.quoting, [True, False])
    if not content.has_quotes:
        ways = ways[:1]
    skipped = int(bool(separator_line))
    return [Table(path, content, d, is_quoted, skipped) for d in delimiters for is_quoted in ways]


def _best(able: Sequence[Table], *, is_tab: bool) -> _Survey:
    """Chooses the delimiter, and for it the way of quoting, with the fewest ragged rows."""
    found: list[_Survey] = []
    for delimiter in dict.fromkeys(table.delimiter for table in able):
        surveys = [_survey(table) for table in able if table.delimiter == delimiter]
        found.append(surveys[0] if len(surveys) == 1 else _by_quoting(*surveys, is_tab=is_tab))
        if not found[-1].ragged and not found[-1].open_quote:
            return found[-1]
    return min(found, key=lambda survey: (survey.open_quote > 0, survey.ragged))


def _by_quoting(quoted: _Survey, plain: _Survey, *, is_tab: bool) -> _Survey:
    quoted.has_enclosed = plain.has_enclosed
    if quoted.open_quote:
        return plain if is_tab or not plain.ragged else quoted
    # Stray quotes that happen to pair up swallow whole lines, each as wide as the header. The lines
    # within a properly quoted field are not all that wide.
    swallows = quoted.rows < plain.rows and plain.width > 1
    if plain.ragged < quoted.ragged or (swallows and plain.ragged == quoted.ragged):
        return plain
    return quoted


def _survey(table: Table) -> _Survey:
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
    except csv.Error:
        survey.open_quote = last_line + 1
    return survey


def _no_column(tables: Sequence[Table], needed: Sequence[str], flags: Sequence[str]) -> UserError:
    headers = [table.header() for table in tables]
    if not any(headers):
        return UserError(f"{tables[0].path} has no row that names the columns; write one first")
    header = headers[0] if len(headers[0]) > 1 else max(headers, key=len)
    column = next((name for name in needed if name not in header), needed[0])
    names = ", ".join(f"--{flag}" for flag in flags)
    return UserError(
        f"{tables[0].path} has no column {shown(column)}, but "
        f"{cut(', '.join(map(shown, header[:20])), 200)}; does its first line name the columns? "
        f"Name them with {names}, and the delimiter with --delimiter"
    )


def _check_twice(table: Table, needed: Sequence[str]) -> None:
    header = table.header()
    for name in needed:
        if header.count(name) > 1:
            raise UserError(
                f"{table.path} has {header.count(name)} columns {shown(name)}; rename the others"
            )


def _log_choice(chosen: _Survey, usual: Table, file_format: FileFormat) -> None:
    table = chosen.table
    if table.delimiter != usual.delimiter or table.skipped:
        name = _NAMES.get(table.delimiter, f"'{table.delimiter}'")
        _log.info("%s: the delimiter is %s", table.path, name)
    if file_format.quoting != "auto" or not table.content.has_quotes:
        return
    if not table.is_quoted:
        _log.info(
            "%s: quotes are part of the text, not around fields (--quoting=csv: around fields)",
            table.path,
        )
    elif chosen.has_enclosed and table.delimiter == "\t":
        _log.info(
            "%s: quotes are around fields, not part of the text (--quoting=none: part of it)",
            table.path,
        )
