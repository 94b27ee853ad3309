"""JSON Lines and JSON arrays."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RunError, UserError
from pipeline.files.file_format import FileFormat
from pipeline.files.records import read_records
from tests.pipeline.files.file_helpers import FIELDS, IN_ONE_FOLDER, NEEDED, ROWS, read, write


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson"])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], []])
def test_an_array_of_objects_is_read(tmp_path, name, indent, rows):
    objects = [dict(zip(NEEDED, row, strict=True)) for row in rows]
    assert read(write(tmp_path / name, json.dumps(objects, indent=indent))) == rows


def test_a_json_line_that_is_not_an_object_is_a_bad_row(tmp_path):
    lines = ["[1]", '{"text": "a", "label": NaN}', "5", "", "nonsense", "[" * 100_000, "NaN"]
    lines += [
        '{"text": Infinity}',
        '{"text": "a", "n": 1e400}',
        '{"text": ' + "9" * 5000 + "}",
        '{"label": "' + "x" * 99,
    ]
    for name in ("a.jsonl", "a.ndjson"):
        path = write(tmp_path / name, "\n".join(lines))
        found = list(read_records(path, NEEDED))
        assert [line for line, record in found if record is None] == [1, 3, 5, 6, 7, 8, 9, 10, 11]
        assert [record for _, record in found if record] == [{"text": "a", "label": None}]


def test_json_that_is_neither_array_nor_lines_is_refused(tmp_path):
    for content in ('{\n "data": []\n}', '{"data": [\n1]}', "nonsense", "5"):
        path = write(tmp_path / "a.json", content)
        with pytest.raises(UserError, match=r"a.json is neither an array"):
            read(path)


@pytest.mark.parametrize("cut", [30, 60, 61, 62, 100])
def test_a_damaged_json_array_is_an_error_with_its_line(tmp_path, cut):
    objects = [dict(zip(NEEDED, row, strict=True)) for row in ROWS]
    path = write(tmp_path / "a.json", json.dumps(objects, indent=0)[:cut])
    with pytest.raises(RunError, match=r"a.json: the JSON array is damaged: .* line \d+"):
        read(path)


def test_unpaired_surrogates_in_texts_are_replaced(tmp_path):
    lines = [r'{"text": "a \ud83d", "label": "x\udc00"}']
    lines += [r'{"text": "\ud83c\udfac", "label": "x"}']
    records = [
        record for _, record in read_records(write(tmp_path / "a.jsonl", "\n".join(lines)), [])
    ]
    assert records[0] == {"text": "a \ufffd", "label": "x\ufffd"}
    assert records[1]["text"] == "\U0001f3ac"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | FIELDS, st.lists, max_leaves=5
)


@IN_ONE_FOLDER
@given(
    rows=st.lists(st.dictionaries(FIELDS, VALUES, max_size=4), min_size=1, max_size=6),
    is_array=st.booleans(),
    is_ascii=st.booleans(),
)
def test_json_is_read_as_written(tmp_path, rows, is_array, is_ascii):
    lines = [json.dumps(row, ensure_ascii=is_ascii) for row in rows]
    content = json.dumps(rows, ensure_ascii=is_ascii) if is_array else "\n".join(lines)
    path = write(tmp_path / "a.jsonl", content)
    assert [record for _, record in read_records(path, [], FileFormat("utf-8"))] == rows
