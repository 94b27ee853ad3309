"""Each file is read by one decision: compression, encoding, delimiter, quoting."""

import bz2
import csv
import gzip
import io
import json
import logging
import lzma

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.errors import RunError, UserError, quote
from pipeline.files.file_format import FileFormat
from pipeline.files.records import read_records

ROWS = [(f"text number {number}, with a comma", ("bad", "fine")[number % 2]) for number in range(8)]
NEEDED = ["text", "label"]
# A file of its own for each try, without a folder of its own for each.
IN_ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def table(rows=ROWS, *, delimiter=",", header=("text", "label"), **options):
    content = io.StringIO(newline="")
    csv.writer(content, delimiter=delimiter, **options).writerows([header, *rows])
    return content.getvalue()


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, file_format=None, needed=NEEDED):
    """The records as tuples of the needed columns, None for what is no record."""
    found = read_records(path, needed, file_format or FileFormat())
    return [record and tuple(record[name] for name in needed) for _, record in found]


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO)
    return lambda: caplog.text


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_compression_is_recognized_by_content(tmp_path, compress, name):
    assert read(write(tmp_path / name, compress(table().encode()))) == ROWS


def test_a_name_that_says_gz_of_a_file_that_is_not_compressed(tmp_path):
    assert read(write(tmp_path / "a.csv.gz", table())) == ROWS


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_delimiter_and_the_line_end_are_found(tmp_path, name, delimiter, end):
    content = table(delimiter=delimiter, lineterminator=end)
    assert read(write(tmp_path / name, content)) == ROWS


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "sep=;\r"])
def test_the_separator_line_of_excel(tmp_path, first):
    path = write(tmp_path / "a.csv", first + "\n" + table(delimiter=";"))
    assert read(path) == ROWS
    assert next(line for line, _ in read_records(path, NEEDED)) == 3


def test_a_delimiter_by_the_flag(tmp_path):
    path = write(tmp_path / "a.csv", table(delimiter="~"))
    with pytest.raises(UserError, match=r"no column 'text', but 'text~label'.*--delimiter"):
        read(path)
    assert read(path, FileFormat(delimiter="~")) == ROWS
    path = write(tmp_path / "a.csv", table(delimiter="\t"))
    for name in ("tab", "\t", r"\t"):
        assert read(path, FileFormat(delimiter=name)) == ROWS


def test_one_column_with_commas_in_its_texts(tmp_path):
    path = write(tmp_path / "a.csv", "text\n" + "".join(f"{text}\n" for text, _ in ROWS))
    assert read(path, needed=["text"]) == [(text,) for text, _ in ROWS]


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-be"]
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_the_encoding_of_the_mark(tmp_path, encoding, name):
    rows = [(f"{text} caf\u00e9 \U0001f3ac", label) for text, label in ROWS]
    content = table(rows)
    if name == "a.jsonl":
        lines = (
            json.dumps(dict(zip(NEEDED, row, strict=True)), ensure_ascii=False) for row in rows
        )
        content = "\n".join(lines)
    marked = content if encoding in ("utf-8-sig", "utf-16", "utf-32") else "\ufeff" + content
    assert read(write(tmp_path / name, marked.encode(encoding))) == rows


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_characters_without_a_mark_are_named(tmp_path, encoding):
    path = write(tmp_path / "a.csv", table().encode(encoding))
    with pytest.raises(UserError, match=f"add --encoding={encoding}$"):
        read(path)
    assert read(path, FileFormat(encoding=encoding)) == ROWS


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["\u0444\u0438\u043b\u044c\u043c", "\u7535\u5f71\u5f88\u597d"])
def test_utf_16_without_a_mark_is_named_whatever_its_script(tmp_path, encoding, text):
    rows = [(f"{text} {text} {text}", text[number % 2]) for number in range(40)]
    path = write(tmp_path / "a.csv", table(rows).encode(encoding))
    with pytest.raises(UserError, match=f"add --encoding={encoding}$"):
        read(path)
    assert read(path, FileFormat(encoding=encoding)) == rows


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("\u0444\u0438\u043b\u044c\u043c", "cp1251"),
        ("\u7535\u5f71\u5f88\u597d", "gb18030"),
        ("\u6620\u753b\u304c", "shift_jis"),
        ("\uc601\ud654", "euc-kr"),
    ],
)
@pytest.mark.parametrize("english", ["", "an English text with a foreign label"])
def test_western_europe_is_no_advice_for_other_scripts(tmp_path, text, encoding, english):
    path = write(tmp_path / "a.csv", table([(english or text, text)] * 9).encode(encoding))
    with pytest.raises(
        UserError, match=rf"^9 lines .* by --encoding, such as .*{encoding}"
    ) as error:
        read(path)
    assert "--encoding=cp1252" not in str(error.value)


def test_a_file_of_two_encodings_is_not_to_be_read_as_one(tmp_path):
    path = write(tmp_path / "a.csv", table().encode() + b"caf\xe9,bad\ncaf\xc3\xa9,fine\n")
    with pytest.raises(
        UserError, match=r"^1 lines .* line 10: .*but other lines are; save the whole file"
    ) as error:
        read(path)
    assert "--encoding" not in str(error.value)


def test_bytes_that_are_no_utf8_are_counted_and_the_flag_that_reads_them_is_named(tmp_path):
    rows = [*ROWS, ("d\u00e9cevant", "bad"), ("caf\u00e9 \u2026", "fine")]
    path = write(tmp_path / "a.csv", table(rows).encode("cp1252"))
    with pytest.raises(
        UserError, match=r"^2 lines of .*a.csv are not.* line 10: .*=cp1252$"
    ) as error:
        read(path)
    assert str(error.value).isprintable()
    assert read(path, FileFormat(encoding="cp1252")) == rows
    with pytest.raises(UserError, match="--encoding=ascii"):
        read(path, FileFormat(encoding="ascii"))
    with pytest.raises(UserError, match=r"--encoding=latin-1$"):
        read(write(path, table().encode() + b"caf\xe9 \x81,fine\n"))


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"PK\x03\x04\x14\0\x06\0", "xlsx"),
        (b"PAR1\x15\x04\x15", "Parquet"),
        (b"%PDF-1.7\n", "PDF"),
        (bz2.compress(gzip.compress(b"text,label\n", mtime=0)), "twice"),
        (bytes(range(256)), "binary"),
        (b"text,label\n" + bytes(range(128, 256)) + bytes(range(20)), "binary"),
    ],
)
def test_a_binary_file_is_named(tmp_path, start, what):
    with pytest.raises(UserError, match=what):
        read(write(tmp_path / "a.csv", start))


def test_a_known_kind_of_binary_file_is_named_whatever_the_encoding_given(tmp_path):
    path = write(tmp_path / "a.csv", b"PK\x03\x04text,label\na,x\n")
    with pytest.raises(UserError, match="zip"):
        read(path, FileFormat(encoding="latin-1"))


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_a_file_without_a_row_says_so(tmp_path, content):
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


def test_a_header_that_lacks_a_column_or_has_it_twice_is_told_in_short(tmp_path):
    long = "word " * 5000
    with pytest.raises(UserError, match="no column 'text', but 'word word") as error:
        read(write(tmp_path / "a.csv", f"{long},pos\n"))
    assert len(str(error.value)) < 450 + len(str(tmp_path))
    with pytest.raises(UserError, match="2 columns 'text'"):
        read(write(tmp_path / "a.csv", "text,text,label\na,b,x\n"))
    assert read(write(tmp_path / "a.csv", "text,label,id,id\na,x,1,2\n")) == [("a", "x")]


STRAY = [f'"{text}' if number % 3 == 1 else text for number, (text, _) in enumerate(ROWS)]


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_stray_quotes_are_part_of_the_text_and_the_log_says_so(tmp_path, name, told):
    delimiter = "\t" if "tsv" in name else ";"
    lines = [f"{text}{delimiter}x\n" for text in STRAY]
    path = write(tmp_path / name, f"text{delimiter}label\n" + "".join(lines))
    assert read(path) == [(text, "x") for text in STRAY]
    assert "quotes belong to the text" in told()


def test_quotes_that_pair_up_over_lines_do_not_swallow_them(tmp_path):
    """Parsed as CSV the file is well-formed and each row has two fields."""
    content = 'text\tlabel\n"one\tx\ntwo\tx\nthree"\ty\nfour\tx\n'
    assert len(list(csv.reader(io.StringIO(content), delimiter="\t", strict=True))) == 3
    path = write(tmp_path / "a.tsv", content)
    assert read(path) == [('"one', "x"), ("two", "x"), ('three"', "y"), ("four", "x")]
    assert read(path, FileFormat(quoting="csv")) == [("one\tx\ntwo\tx\nthree", "y"), ("four", "x")]


def test_a_quoted_tsv_with_line_breaks_is_read_as_csv_is(tmp_path, told):
    rows = [("two\nlines\tand a tab", "x"), ('a "quote"', "y"), ("plain", "x")]
    path = write(tmp_path / "a.tsv", table(rows, delimiter="\t"))
    assert read(path) == rows
    assert "quotes enclose fields" in told()
    assert len(read(path, FileFormat(quoting="none"))) == 4


def test_an_open_quote_in_a_quoted_csv_is_an_error_with_its_line(tmp_path):
    content = table() + '"open, and never closed,x\n' + table().partition("\n")[2]
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(UserError, match=r"a.csv:10: a \" opens.*--quoting=none"):
        read(path)
    with pytest.raises(UserError, match=r"a.csv:10"):
        read(path, FileFormat(quoting="csv"))
    assert len(read(path, FileFormat(quoting="none"))) == 17


def test_a_quoted_header_says_that_quotes_are_around_fields(tmp_path):
    path = write(tmp_path / "a.csv", table(quoting=csv.QUOTE_ALL))
    assert read(path) == ROWS
    with pytest.raises(UserError, match=r"a.csv:10"):
        read(write(path, table(quoting=csv.QUOTE_ALL) + '"a"b,x\n'))


def test_one_ragged_row_does_not_change_how_quotes_are_read(tmp_path):
    path = write(tmp_path / "a.csv", table() + 'one,two,"th,ree"\n')
    assert read(path)[:8] == ROWS


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson"])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], []])
def test_an_array_of_objects_is_read(tmp_path, name, indent, rows):
    objects = [dict(zip(NEEDED, row, strict=True)) for row in rows]
    assert read(write(tmp_path / name, json.dumps(objects, indent=indent))) == rows


def test_what_is_no_object_is_a_row_with_a_line(tmp_path):
    lines = ["[1]", '{"text": "a", "label": NaN}', "5", "", "nonsense", "[" * 100_000, "NaN"]
    lines += ['{"text": Infinity}', '{"text": ' + "9" * 5000 + "}", '{"label": "' + "x" * 99]
    for name in ("a.jsonl", "a.ndjson"):
        path = write(tmp_path / name, "\n".join(lines))
        found = list(read_records(path, NEEDED))
        assert [line for line, record in found if record is None] == [1, 3, 5, 6, 7, 8, 9, 10]
        assert [record for _, record in found if record] == [{"text": "a", "label": None}]


def test_json_that_is_neither_array_nor_lines_is_refused_by_name(tmp_path):
    for content in ('{\n "data": []\n}', '{"data": [\n1]}', "nonsense", "5"):
        path = write(tmp_path / "a.json", content)
        with pytest.raises(UserError, match=r"a.json is neither an array"):
            read(path)


@pytest.mark.parametrize("cut", [30, 60, 61, 62, 100])
def test_a_damaged_array_is_a_fault_with_its_line(tmp_path, cut):
    objects = [dict(zip(NEEDED, row, strict=True)) for row in ROWS]
    path = write(tmp_path / "a.json", json.dumps(objects, indent=0)[:cut])
    with pytest.raises(RunError, match=r"a.json:\d+: the JSON array is damaged"):
        read(path)


def test_half_characters_become_replacement_characters_and_are_counted(tmp_path, caplog):
    lines = [r'{"text": "a \ud83d", "label": "x\udc00", "more": {"\ud800": ["\udfff"]}}']
    lines += [r'{"text": "\ud83c\udfac", "label": "x"}']
    records = [
        record for _, record in read_records(write(tmp_path / "a.jsonl", "\n".join(lines)), [])
    ]
    assert records[0] == {"text": "a \ufffd", "label": "x\ufffd", "more": {"\ufffd": ["\ufffd"]}}
    assert records[1]["text"] == "\U0001f3ac"
    assert "4 unpaired surrogates" in caplog.text


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
        ({"quoting": "some"}, "--quoting='some' is unknown"),
    ],
)
def test_settings_of_the_format_are_checked(options, message):
    with pytest.raises(UserError) as error:
        FileFormat(**options)
    assert message in str(error.value)


@given(st.text() | st.binary() | st.integers() | st.lists(st.text()))
@example("x" * 1_000_000)
@example("\ud800\x1b[31m\u202e" * 80)
def test_quoted_values_are_short_and_print(value):
    assert len(quote(value)) <= 82
    assert quote(value).isprintable()


# csv writes what it reads again only with line ends it knows; the reader takes any of them.
FIELDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TABLES = st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=6)


@IN_ONE_FOLDER
@given(rows=TABLES, delimiter=st.sampled_from(",\t;|"), quotes_all=st.booleans())
def test_quoted_tables_are_read_as_they_were_written(tmp_path, rows, delimiter, quotes_all):
    quoting = csv.QUOTE_ALL if quotes_all else csv.QUOTE_MINIMAL
    content = table(rows, delimiter=delimiter, quoting=quoting)
    # A quote inside says to csv's writer to enclose a field; nothing else here decides it.
    assert read(write(tmp_path / "a.csv", content), FileFormat("utf-8", "auto", "csv")) == rows


PLAIN = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n"), min_size=1, max_size=20
)


@IN_ONE_FOLDER
@given(rows=st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=6))
def test_unquoted_tables_are_read_as_they_were_written(tmp_path, rows):
    content = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows)
    path = write(tmp_path / "a.tsv", content)
    assert read(path, FileFormat("utf-8", "auto", "none")) == rows
    # Where nothing is said, no row is lost, whatever the quotes.
    assert len(read(path, FileFormat("utf-8"))) == len(rows)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | FIELDS, st.lists, max_leaves=5
)


@IN_ONE_FOLDER
@given(
    rows=st.lists(st.dictionaries(FIELDS, VALUES, max_size=4), min_size=1, max_size=6),
    is_array=st.booleans(),
    is_ascii=st.booleans(),
)
def test_json_is_read_as_it_was_written(tmp_path, rows, is_array, is_ascii):
    lines = [json.dumps(row, ensure_ascii=is_ascii) for row in rows]
    content = json.dumps(rows, ensure_ascii=is_ascii) if is_array else "\n".join(lines)
    path = write(tmp_path / "a.jsonl", content)
    assert [record for _, record in read_records(path, [], FileFormat("utf-8"))] == rows


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
