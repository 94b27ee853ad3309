"""CSV and TSV: delimiter, header and quoting."""

import csv
import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.files.file_format import FileFormat
from pipeline.files.records import read_records
from tests.pipeline.files.file_helpers import (
    FIELDS,
    IN_ONE_FOLDER,
    NEEDED,
    ROWS,
    read,
    table,
    write,
)


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO)
    return lambda: caplog.text


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_delimiter_and_the_line_end_are_found(tmp_path, name, delimiter, end):
    content = table(delimiter=delimiter, lineterminator=end)
    assert read(write(tmp_path / name, content)) == ROWS


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "sep=;\r"])
def test_the_sep_line_of_excel_sets_the_delimiter(tmp_path, first):
    path = write(tmp_path / "a.csv", first + "\n" + table(delimiter=";"))
    assert read(path) == ROWS
    assert next(line for line, _ in read_records(path, NEEDED)) == 3


def test_the_delimiter_flag_sets_the_delimiter(tmp_path):
    path = write(tmp_path / "a.csv", table(delimiter="~"))
    with pytest.raises(UserError, match=r"no column 'text', but 'text~label'.*delimiter"):
        read(path)
    assert read(path, FileFormat(delimiter="~")) == ROWS
    path = write(tmp_path / "a.csv", table(delimiter="\t"))
    for name in ("tab", "\t", r"\t"):
        assert read(path, FileFormat(delimiter=name)) == ROWS


def test_one_column_with_commas_in_its_texts(tmp_path):
    path = write(tmp_path / "a.csv", "text\n" + "".join(f"{text}\n" for text, _ in ROWS))
    assert read(path, needed=["text"]) == [(text,) for text, _ in ROWS]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_a_file_without_a_header_is_an_error(tmp_path, content):
    with pytest.raises(UserError, match=r"is empty|no row that names the columns"):
        read(write(tmp_path / "a.csv", content))


def test_a_header_alone_blank_lines_and_ragged_rows(tmp_path):
    assert read(write(tmp_path / "a.csv", "text,label\n")) == []
    path = write(tmp_path / "a.csv", "\ntext, label\n\na,x\n  \nb\nc,y,z\n,\n")
    records = list(read_records(path, NEEDED))
    assert records == [
        (4, {"text": "a", "label": "x"}),
        (6, {"text": "b", "label": None}),
        (7, {"text": "c", "label": "y", None: ["z"]}),
        (8, {"text": "", "label": ""}),
    ]


def test_a_missing_or_duplicate_column_is_a_short_error(tmp_path):
    long = "word " * 5000
    with pytest.raises(UserError, match="no column 'text', but 'word word") as error:
        read(write(tmp_path / "a.csv", f"{long},pos\n"))
    assert len(error.value.message) < 450 + len(str(tmp_path))
    with pytest.raises(UserError, match="2 columns 'text'"):
        read(write(tmp_path / "a.csv", "text,text,label\na,b,x\n"))
    assert read(write(tmp_path / "a.csv", "text,label,id,id\na,x,1,2\n")) == [("a", "x")]


STRAY = [f'"{text}' if number % 3 == 1 else text for number, (text, _) in enumerate(ROWS)]


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_stray_quotes_are_kept_in_the_text(tmp_path, name, logged):
    delimiter = "\t" if "tsv" in name else ";"
    lines = [f"{text}{delimiter}x\n" for text in STRAY]
    path = write(tmp_path / name, f"text{delimiter}label\n" + "".join(lines))
    assert read(path) == [(text, "x") for text in STRAY]
    assert "quotes belong to the text" in logged()


def test_quotes_that_match_across_lines_do_not_merge_rows(tmp_path):
    """Parsed as CSV the file is well-formed and each row has two fields."""
    content = 'text\tlabel\n"one\tx\ntwo\tx\nthree"\ty\nfour\tx\n'
    assert len(list(csv.reader(io.StringIO(content), delimiter="\t", strict=True))) == 3
    path = write(tmp_path / "a.tsv", content)
    assert read(path) == [('"one', "x"), ("two", "x"), ('three"', "y"), ("four", "x")]
    assert read(path, FileFormat(quoting="csv")) == [("one\tx\ntwo\tx\nthree", "y"), ("four", "x")]


def test_a_quoted_tsv_may_have_line_breaks(tmp_path, logged):
    rows = [("two\nlines\tand a tab", "x"), ('a "quote"', "y"), ("plain", "x")]
    path = write(tmp_path / "a.tsv", table(rows, delimiter="\t"))
    assert read(path) == rows
    assert "quotes enclose fields" in logged()
    assert len(read(path, FileFormat(quoting="none"))) == 4


def test_an_unclosed_quote_is_an_error_with_its_line(tmp_path):
    content = table() + '"open, and never closed,x\n' + table().partition("\n")[2]
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(UserError, match=r"a.csv:10: a \" opens.*quoting=none"):
        read(path)
    with pytest.raises(UserError, match=r"a.csv:10"):
        read(path, FileFormat(quoting="csv"))
    assert len(read(path, FileFormat(quoting="none"))) == 17


def test_a_quoted_header_means_quoted_fields(tmp_path):
    path = write(tmp_path / "a.csv", table(quoting=csv.QUOTE_ALL))
    assert read(path) == ROWS
    with pytest.raises(UserError, match=r"a.csv:10"):
        read(write(path, table(quoting=csv.QUOTE_ALL) + '"a"b,x\n'))


def test_one_ragged_row_does_not_change_the_quoting(tmp_path):
    path = write(tmp_path / "a.csv", table() + 'one,two,"th,ree"\n')
    assert read(path)[:8] == ROWS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "klingon"}, "--encoding='klingon' is unknown"),
        ({"encoding": "base64"}, "--encoding='base64' is unknown"),
        ({"encoding": ""}, "--encoding='' is unknown"),
        ({"delimiter": "::"}, "--delimiter='::' is not a delimiter"),
        ({"delimiter": "a"}, "--delimiter='a' is not a delimiter"),
        ({"delimiter": ""}, "--delimiter='' is not a delimiter"),
        ({"delimiter": "\n"}, r"--delimiter='\n' is not a delimiter"),
    ],
)
def test_file_format_settings_are_checked(options, message):
    with pytest.raises(UserError) as error:
        FileFormat(**options)
    assert message in error.value.message


TABLES = st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=6)


@IN_ONE_FOLDER
@given(rows=TABLES, delimiter=st.sampled_from(",\t;|"), quotes_all=st.booleans())
def test_quoted_tables_are_read_as_written(tmp_path, rows, delimiter, quotes_all):
    quoting = csv.QUOTE_ALL if quotes_all else csv.QUOTE_MINIMAL
    content = table(rows, delimiter=delimiter, quoting=quoting)
    # csv.writer quotes a field that has a quote; --quoting=csv reads it so.
    assert read(write(tmp_path / "a.csv", content), FileFormat("utf-8", "auto", "csv")) == rows


PLAIN = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n"), min_size=1, max_size=20
)


@IN_ONE_FOLDER
@given(rows=st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=6))
def test_unquoted_tables_are_read_as_written(tmp_path, rows):
    content = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows)
    path = write(tmp_path / "a.tsv", content)
    assert read(path, FileFormat("utf-8", "auto", "none")) == rows
    # Where nothing is said, no row is lost, whatever the quotes.
    assert len(read(path, FileFormat("utf-8"))) == len(rows)
