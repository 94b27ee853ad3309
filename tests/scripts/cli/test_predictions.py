"""Rows that predict writes can be read back by the documented escapes."""

import json
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.files.texts import Text
from scripts.cli import predictions

ESCAPED = {b"\\\\": b"\\", rb"\t": b"\t", rb"\n": b"\n", rb"\r": b"\r"}


def read_tsv(content):
    """Reads rows of columns <bytes> as predict's help describes."""
    rows = [line.split(b"\t") for line in content.split(b"\n")[:-1]]
    unescape = re.compile(rb"\\(.)")
    return [
        [unescape.sub(lambda match: ESCAPED[match[0]], column) for column in row] for row in rows
    ]


NASTY = st.sampled_from(
    [b"\t", b'"', b"\n", b"\r", b"\\", b"\0", b"\xed\xa0\x80", b"\xe9", b"n", b"t"]
)
BYTES = st.binary(max_size=20) | st.lists(NASTY, max_size=12).map(b"".join)
STRINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ROWS = st.lists(
    st.tuples(STRINGS, st.floats(0, 1, width=32), BYTES, st.lists(STRINGS, max_size=2)), max_size=5
)


@given(ROWS)
@example([("a\tb\\n", 0.5, b'\\t\t\\\\\r\n\0"', ["\n", ""])])
def test_rows_are_read_as_written(rows):
    content = b"".join(
        predictions.format_tsv({label: p}, Text(text, dict(enumerate(kept)))) + b"\n"
        for label, p, text, kept in rows
    )
    expected = [
        [label.encode(), f"{p:.6f}".encode(), text, *(column.encode() for column in kept)]
        for label, p, text, kept in rows
    ]
    assert read_tsv(content) == expected


@given(ROWS)
def test_objects_are_read_as_written(rows):
    for label, p, text, kept in rows:
        columns = {f"kept {number}": value for number, value in enumerate(kept)}
        line = predictions.format_json({label: p}, Text(text, columns))
        assert b"\n" not in line
        expected = {"label": label, "probability": p, "probabilities": {label: p}}
        expected |= {"text": text.decode(errors="replace")}
        assert json.loads(line) == {**expected, **columns}


def test_values_other_than_strings_are_json_in_rows():
    text = Text(b"fine", {"id": 7, "tags": ["a\tb"], "no": None})
    assert predictions.format_tsv({"x": 0.5}, text) == b'x\t0.500000\tfine\t7\t["a\\\\tb"]\t'
    assert json.loads(predictions.format_json({"x": 0.5}, text))["tags"] == ["a\tb"]


def test_an_explanation_is_the_last_column():
    from types import SimpleNamespace

    explanation = SimpleNamespace(tokens=["a\tb"], contributions=np.array([0.5]), baseline=0.0)
    row = predictions.format_tsv({"x": 0.5}, Text(b"fine", {"id": "7"}), explanation)
    assert row == rb"x	0.500000	fine	7	a\tb=+0.500"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["id", "label"], "'label' is a name that the output uses"),
        (["baseline"], "'baseline' is a name that the output uses"),
        (["body"], "'body' is the text"),
        (["id", "id"], "'id' twice"),
    ],
)
def test_reserved_column_names_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        predictions.check_keep_columns(names, ["body"])
    predictions.check_keep_columns(["id", "date"], ["body"])
