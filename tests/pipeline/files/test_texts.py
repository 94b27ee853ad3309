"""Texts to score are read as training would read them from the same file."""

import bz2
import gzip
import io
import json
import logging
import lzma
import os
import threading

import pytest

from pipeline.errors import RunError, UserError
from pipeline.files.file_format import FileFormat
from pipeline.files.texts import read_lines, read_texts


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(path, **options):
    return [text.text.decode() for text in read_texts(path, ["text"], **options)]


@pytest.mark.parametrize("name", ["a.txt", "a", "a.log", "a.txt.gz", "a.txt.bz2"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_text_file_has_one_text_per_line(tmp_path, name, end):
    lines = ["one, two", "", '"', "caf\u00e9\u2028\x0c\x85 \0", "last"]
    content = end.join(lines).encode()
    path = write(tmp_path / name, gzip.compress(content) if "gz" in name else content)
    assert texts(path) == lines


def test_a_text_file_may_have_another_encoding(tmp_path):
    path = write(tmp_path / "a.txt", "caf\u00e9\r\n\u4f60\n".encode("utf-16"))
    assert texts(path) == ["caf\u00e9", "\u4f60"]
    path = write(tmp_path / "b.txt", "one\ncaf\u00e9\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"1 lines of .* line 2: .*encoding, such as cp1252"):
        texts(path)
    assert texts(path, file_format=FileFormat(encoding="latin-1")) == ["one", "caf\u00e9"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'{\n "text": "fine"\n}', "neither an array"),
        ("a.xlsx", b"PK\x03\x04", ".xlsx files cannot be read"),
        ("a.html.gz", gzip.compress(b"<p>fine", mtime=0), ".html files cannot be read"),
        ("a.txt", b"PK\x03\x04\x14\0", "is binary or still compressed"),
        ("a.log", bytes(range(256)), "binary"),
        ("a.dat", b"id,text\n1,fine\n", ".dat files cannot be read; rename it to .txt"),
        ("a.jsonlines", b'{"text": "fine"}', ".jsonlines files cannot be read"),
        ("a", b'id;"text"\r\n1;fine\r\n', "a table with a column 'text'; rename it to .csv"),
        ("a.txt", b'\n{"text": "fine"}\n', "JSON; rename it to .json or .jsonl"),
        ("a.txt.gz", gzip.compress(b'[\n {"text": "fine"}]', mtime=0), "JSON; rename it to"),
        ("a.txt", "fine\n".encode("utf-16-le"), "encoding=utf-16-le"),
        ("a.csv", b"body\nfine\n", "no column 'text', but 'body'.*with text_column, and"),
        ("none.csv", None, "no such file"),
    ],
)
def test_unreadable_input_is_found_before_scoring(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        write(path, content)
    with pytest.raises(UserError, match=message) as error:
        texts(path)
    assert "label_column" not in str(error.value)


def test_a_folder_and_a_damaged_file_are_errors(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        texts(tmp_path)
    with pytest.raises(RunError, match=r"a.csv cannot be read"):
        texts(write(tmp_path / "a.csv", gzip.compress(b"text\nfine\n" * 99)[:-9]))


def test_bad_rows_are_errors_with_their_line_or_skipped_and_counted(tmp_path, caplog):
    path = write(tmp_path / "a.csv", "id,text\n1,one\n2\n3,two,three\n4,four\n")
    with pytest.raises(UserError, match=r"a.csv:3: no text in 'text'.*skip_bad_rows"):
        texts(path)
    assert texts(path, skip_bad_rows=True) == ["one", "four"]
    assert "skipped 2 rows" in caplog.text
    assert "a.csv:3: no text" in caplog.text


def test_columns_are_kept(tmp_path):
    path = write(tmp_path / "a.csv", 'id,text,date,x\n1,one,"a\tb",y\n2,two,,z\n')
    kept = [text.kept for text in read_texts(path, ["text"], ("date", "id"))]
    assert kept == [{"date": "a\tb", "id": "1"}, {"date": "", "id": "2"}]
    with pytest.raises(UserError, match=r"no column 'name'.*text_column, keep_columns"):
        read_texts(path, ["text"], ("name",))
    lines = [{"text": "one", "id": 1}, {"text": "two", "id": [None, 2]}, {"text": "three"}]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    with pytest.raises(UserError, match=r"a.jsonl:3: no 'id', which keep_columns names"):
        list(read_texts(path, ["text"], ("id",)))
    found = read_texts(path, ["text"], ("id",), skip_bad_rows=True)
    assert [text.kept["id"] for text in found] == [1, [None, 2]]
    with pytest.raises(UserError, match="has no columns"):
        read_texts(write(tmp_path / "a.txt", "one"), ["text"], ("id",))


def test_a_pipe_is_read_as_lines(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"one\ntwo\n",))
    writer.start()
    assert texts(path) == ["one", "two"]
    writer.join()
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(UserError, match="is a pipe or device"):
        texts(tmp_path / "a.csv")


def streamed(content, encoding="auto"):
    file = io.BufferedReader(io.BytesIO(content))
    return [text.text for text in read_lines(file, FileFormat(encoding), "stdin")]


def test_a_stream_is_read_line_by_line(caplog):
    assert streamed(b"") == []
    assert streamed(b"a\r\n\nb") == [b"a", b"", b"b"]
    assert streamed("caf\u00e9\nb\n".encode("utf-16")) == [b"caf\xc3\xa9", b"b"]
    assert streamed(b"\xef\xbb\xbfa\n") == [b"a"]
    assert streamed(b"caf\xe9\n", "latin-1") == [b"caf\xc3\xa9"]
    assert not caplog.records


def test_invalid_utf8_in_a_stream_is_kept_and_counted(caplog):
    caplog.set_level(logging.WARNING)
    assert streamed(b"fine\ncaf\xe9\n\xff\n") == [b"fine", b"caf\xe9", b"\xff"]
    assert "2 lines of stdin are not UTF-8, the first is line 2" in caplog.text


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(99), "ab\n".encode("utf-16-le") * 9])
def test_a_binary_stream_is_refused(content):
    with pytest.raises(UserError, match=r"^stdin (is binary|looks like UTF-16-LE)"):
        streamed(content)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_stream_is_refused(compress):
    with pytest.raises(
        UserError, match=r"^stdin is binary or still compressed, not text; decompress it"
    ):
        streamed(compress(b"A good film.\n"))


def test_a_stream_in_another_encoding_is_refused():
    with pytest.raises(UserError, match=r"line 2 of stdin or one near it is not ASCII"):
        for _ in read_lines(
            io.BufferedReader(io.BytesIO(b"fine\n" + b"caf\xe9\n"), 5), FileFormat("ascii"), "stdin"
        ):
            pass


def test_several_columns_are_joined_as_in_training(tmp_path):
    path = write(tmp_path / "a.csv", "title,text\none,two\n,three\n")
    assert [text.text for text in read_texts(path, ["title", "text"])] == [b"one two", b"three"]
    with pytest.raises(UserError, match="a table with a column 'title'"):
        read_texts(write(tmp_path / "a.txt", "title,text\none,two\n"), ["title", "text"])
