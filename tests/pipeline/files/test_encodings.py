"""Compression, encoding and binary formats of files."""

import bz2
import gzip
import json
import lzma

import pytest

from pipeline.errors import UserError
from pipeline.files.file_format import FileFormat
from tests.pipeline.files.file_helpers import NEEDED, ROWS, read, table, write


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_compression_is_recognized_by_content(tmp_path, compress, name):
    assert read(write(tmp_path / name, compress(table().encode()))) == ROWS


def test_an_uncompressed_file_may_be_named_gz(tmp_path):
    assert read(write(tmp_path / "a.csv.gz", table())) == ROWS


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-be"]
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_byte_order_mark_sets_the_encoding(tmp_path, encoding, name):
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
def test_utf_16_and_utf_32_without_a_mark_suggest_the_encoding(tmp_path, encoding):
    path = write(tmp_path / "a.csv", table().encode(encoding))
    with pytest.raises(UserError, match=f"add encoding={encoding}$"):
        read(path)
    assert read(path, FileFormat(encoding=encoding)) == ROWS


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["\u0444\u0438\u043b\u044c\u043c", "\u7535\u5f71\u5f88\u597d"])
def test_utf_16_without_a_mark_suggests_the_encoding_in_any_script(tmp_path, encoding, text):
    rows = [(f"{text} {text} {text}", text[number % 2]) for number in range(40)]
    path = write(tmp_path / "a.csv", table(rows).encode(encoding))
    with pytest.raises(UserError, match=f"add encoding={encoding}$"):
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
def test_the_encodings_of_other_scripts_are_suggested(tmp_path, text, encoding, english):
    path = write(tmp_path / "a.csv", table([(english or text, text)] * 9).encode(encoding))
    with pytest.raises(UserError, match=rf"^9 lines .* by encoding, such as .*{encoding}"):
        read(path)


def test_a_file_of_two_encodings_is_an_error(tmp_path):
    path = write(tmp_path / "a.csv", table().encode() + b"caf\xe9,bad\ncaf\xc3\xa9,fine\n")
    with pytest.raises(
        UserError, match=r"^1 lines .* line 10: .*but other lines are; save the whole file"
    ) as error:
        read(path)
    assert "--encoding" not in error.value.message


def test_invalid_utf8_is_counted_and_suggests_an_encoding(tmp_path):
    rows = [*ROWS, ("d\u00e9cevant", "bad"), ("caf\u00e9 \u2026", "fine")]
    path = write(tmp_path / "a.csv", table(rows).encode("cp1252"))
    with pytest.raises(
        UserError, match=r"^2 lines of .*a.csv are not.* line 10: .*such as cp1252"
    ) as error:
        read(path)
    assert error.value.message.isprintable()
    assert read(path, FileFormat(encoding="cp1252")) == rows
    with pytest.raises(UserError, match="encoding=ascii"):
        read(path, FileFormat(encoding="ascii"))


@pytest.mark.parametrize(
    "start",
    [
        b"PK\x03\x04\x14\0\x06\0",
        b"PAR1\x15\x04\x15",
        b"%PDF-1.7\n",
        bz2.compress(gzip.compress(b"text,label\n", mtime=0)),
        bytes(range(256)),
        b"text,label\n" + bytes(range(128, 256)) + bytes(range(20)),
    ],
)
def test_a_binary_file_is_named(tmp_path, start):
    with pytest.raises(UserError, match=r"a\.csv is binary or still compressed, not text"):
        read(write(tmp_path / "a.csv", start))


def test_a_binary_file_is_named_at_any_encoding(tmp_path):
    path = write(tmp_path / "a.csv", b"PK\x03\x04text,label\na,x\n")
    with pytest.raises(UserError, match="is binary"):
        read(path, FileFormat(encoding="latin-1"))
