"""Any bytes are read as rows or cause one line of error."""

import gzip

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.errors import RunError, UserError, quote
from pipeline.files.file_format import FileFormat
from pipeline.files.records import read_records
from tests.pipeline.files.file_helpers import IN_ONE_FOLDER, NEEDED, write


@given(st.text() | st.binary() | st.integers() | st.lists(st.text()))
@example("x" * 1_000_000)
@example("\ud800\x1b[31m\u202e" * 80)
def test_values_in_messages_are_short_and_printable(value):
    assert len(quote(value)) <= 82
    assert quote(value).isprintable()


FRAGMENTS = [
    *(b"text", b"label", b",", b"\t", b";", b'"', b'""', b"\n", b"\r", b"\r\n", b"\0", b"sep=,\n"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xe9", b"\xed\xa0\x80", b"\x1f\x8b\x08", b"BZh"),
    *(b"{", b"}", b"[", b"]", b'{"text": "a", "label": "x"}', b"NaN", rb'"\ud83d"', b"1e999"),
    *(b"text,label\n", b"text\tlabel\n", b'"text","label"\r\n', b"PK\x03\x04"),
    "\u2028\u4f60".encode(),
]


PARTS = st.sampled_from(FRAGMENTS) | st.binary(max_size=3)


BYTES = st.binary(max_size=60) | st.lists(PARTS, max_size=25).map(b"".join)


OPTIONS = st.builds(
    FileFormat,
    st.sampled_from(["auto", "auto", "auto", "utf-8", "latin-1", "utf-16", "utf-32-be", "utf-7"]),
    st.sampled_from(["auto", "auto", "auto", ";", "tab"]),
    st.sampled_from(["auto", "auto", "csv", "none"]),
)


def check_any_bytes(folder, content, name, options, *, compress):
    path = write(folder / name, gzip.compress(content) if compress else content)
    message = ""
    try:
        for line, record in read_records(path, NEEDED, options):
            assert line > 0
            for value in (record or {}).values():
                str(value).encode()
    except (UserError, RunError) as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 700 + len(str(path))


NAMES = st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.json"])


@IN_ONE_FOLDER
@given(content=BYTES, name=NAMES, options=OPTIONS, compress=st.booleans())
def test_any_bytes_are_rows_or_one_line_of_error(tmp_path, content, name, options, compress):
    check_any_bytes(tmp_path, content, name, options, compress=compress)


@pytest.mark.slow
@settings(IN_ONE_FOLDER, max_examples=10_000)
@given(content=BYTES, name=NAMES, options=OPTIONS, compress=st.booleans())
def test_ten_thousand_files_are_rows_or_one_line_of_error(
    tmp_path, content, name, options, compress
):
    check_any_bytes(tmp_path, content, name, options, compress=compress)
