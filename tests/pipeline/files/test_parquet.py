"""Parquet files are read as CSV files with the same rows would be."""

import datetime
import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pipeline.errors import RunError, UserError
from pipeline.file_dataset.rows import RowSettings
from pipeline.file_dataset.sources import FileSource
from pipeline.files.file_format import FileFormat
from pipeline.files.records import find_files, read_records
from pipeline.files.texts import read_texts
from tests.pipeline.file_dataset.test_file_dataset import ROWS, opened, read, write_csv
from tests.pipeline.files.file_helpers import IN_ONE_FOLDER

SETTINGS = RowSettings(("text",), "label", "")
TEXTS, LABELS = ([str(value) for value in column] for column in zip(*ROWS, strict=True))


def write(path, texts=TEXTS, labels=LABELS, *, names=None, **options):
    """Writes a file; with `names`, as Hugging Face's library stores class names."""
    table = pa.table({"text": texts, "label": labels})
    if names:
        features = {"text": {"dtype": "string"}, "label": {"names": names, "_type": "ClassLabel"}}
        content = {"info": {"features": features}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps(content)})
    parquet.write_table(table, path, **options)
    return path


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int16(), pa.string())]
)
def test_rows_are_those_of_a_csv_file_for_each_type_of_string(tmp_path, kind):
    columns = [pa.array(values).cast(pa.string()).cast(kind) for values in (TEXTS, LABELS)]
    files = opened(write(tmp_path / "a.parquet", *columns, row_group_size=7))
    same = opened(write_csv(tmp_path / "a.csv"))
    assert files.label_names == same.label_names
    assert files.fingerprint == same.fingerprint
    for split in ("train", "validation", "test"):
        assert read(files, split) == read(same, split)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([True, False], ("False", "True")),
        (pa.array([10, 9], pa.uint16()), ("9", "10")),
        ([4.0, 5.0], ("4", "5")),
        ([0.5, 4.0], ("0.5", "4")),
        ([datetime.date(2026, 1, 2), datetime.date(2025, 1, 2)], ("2025-01-02", "2026-01-02")),
    ],
)
def test_labels_of_other_types_become_text(tmp_path, labels, expected):
    labels = pa.concat_arrays([pa.array(labels)] * 20)
    path = write(tmp_path / "a.parquet", TEXTS[:40], labels)
    assert opened(path).label_names == expected


def test_class_names_of_hugging_face_name_and_order_the_labels(tmp_path):
    names = ["terrible", "so-so", "good", "unused"]
    for part in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        write(tmp_path / f"{part}.parquet", TEXTS, [n % 3 for n in range(200)], names=names)
    write(tmp_path / "test-00000-of-00001.parquet", ["x", "y"], [2, 0], names=names)
    files = opened(tmp_path)
    assert files.label_names == ("terrible", "so-so", "good")
    assert {split: files.size(split) for split in files.splits} == {
        "train": 400,
        "validation": 200,
        "test": 2,
    }
    assert read(files, "test") == [("x", 2), ("y", 0)]
    merged = opened(tmp_path, label_map={"so-so": "bad", "terrible": "bad"})
    assert merged.label_names == ("bad", "good")


def test_an_unlabelled_test_split_of_hugging_face_is_refused_or_skipped(tmp_path):
    write(tmp_path / "train.parquet", TEXTS, [n % 2 for n in range(200)], names=["no", "yes"])
    write(tmp_path / "test.parquet", ["x", "y", "z"], [-1, None, 7], names=["no", "yes"])
    with pytest.raises(UserError, match=r"3 of 203 rows .*test.parquet:1: no label in 'label'"):
        opened(tmp_path)
    files = opened(tmp_path, skip=True)
    assert files.size("test") > 20
    assert sum(map(files.size, files.splits)) == 200


def test_minus_one_is_a_label_where_labels_have_no_names(tmp_path):
    path = write(tmp_path / "a.parquet", TEXTS, [2 * (n % 2) - 1 for n in range(200)])
    assert opened(path).label_names == ("-1", "1")


@pytest.mark.parametrize("info", [b"[", b"3", b'{"info": {"features": {"label": {"names": 3}}}}'])
def test_other_metadata_is_ignored(tmp_path, info):
    table = pa.table({"text": TEXTS, "label": LABELS}).replace_schema_metadata(
        {b"huggingface": info}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    assert opened(tmp_path / "a.parquet").label_names == ("bad", "fine")


def test_bad_rows_have_the_number_of_their_row(tmp_path):
    labels = [*LABELS[:3], None, "x", "x"]
    path = write(tmp_path / "a.parquet", [*TEXTS[:4], None, "x"], labels)
    rows = list(FileSource(str(path), SETTINGS).rows())
    assert [(row.line, row.problem) for row in rows if row.problem] == [
        (4, "no label in 'label'"),
        (5, "no text in 'text', which --text_column names"),
    ]


def test_the_encoding_of_bytes_and_a_delimiter_without_effect(tmp_path, caplog):
    caplog.set_level("INFO")
    path = write(tmp_path / "a.parquet", ["caf\u00e9".encode("cp1252"), b"fine"], ["x", "y"])
    found = [record["text"] for _, record in read_records(path, ["text"])]
    assert found == [None, "fine"]
    form = FileFormat("cp1252", ";")
    assert next(read_records(path, ["text"], form)) == (1, {"text": "caf\u00e9"})
    assert "is not CSV or TSV: --delimiter and --quoting" in caplog.text


def test_a_file_without_columns_is_an_error(tmp_path):
    parquet.write_table(pa.table({}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet has no columns; check how"):
        list(read_records(tmp_path / "a.parquet", ["text"]))


def test_a_missing_or_repeated_column_is_an_error_that_lists_the_columns(tmp_path):
    path = write(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"has no column 'body', but 'text', 'label'; name one wi"):
        list(read_records(path, ["body"]))
    table = pa.table([["a"], ["b"]], names=["text", "text"])
    parquet.write_table(table, path)
    with pytest.raises(UserError, match="has 2 columns 'text'"):
        list(read_records(path, ["text"]))


def test_a_column_of_splits_is_found_but_others_are_not_read(tmp_path):
    table = pa.table({"text": ["a"], "label": ["x"], "Split": ["test"], "image": [b"\xff"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    (row,) = FileSource(str(tmp_path / "a.parquet"), SETTINGS).rows()
    assert row.split_columns == ("Split",)
    ((_, record),) = read_records(tmp_path / "a.parquet", ["text"])
    assert set(record) == {"text", "Split"}


def test_texts_to_predict_and_other_columns(tmp_path):
    table = pa.table({"text": ["a", "b"], "day": [datetime.date(2026, 1, 2), None]})
    parquet.write_table(table, tmp_path / "a.parquet")
    found = list(read_texts(tmp_path / "a.parquet", ["text"], ["day"]))
    assert [(text.text, text.kept) for text in found] == [
        (b"a", {"day": "2026-01-02"}),
        (b"b", {"day": None}),
    ]


def test_a_folder_and_a_pattern_include_parquet(tmp_path):
    path = write(tmp_path / "a.parquet")
    (tmp_path / ".cache").mkdir()
    write(tmp_path / ".cache" / "b.parquet")
    assert find_files(str(tmp_path)) == find_files(str(tmp_path / "*.parquet")) == [path]


@pytest.mark.parametrize(
    ("size", "kind"), [(1, pa.string()), (10_000, pa.dictionary(pa.int16(), pa.string()))]
)
def test_with_a_changed_byte_a_file_has_all_rows_or_is_an_error(tmp_path, monkeypatch, size, kind):
    monkeypatch.setattr("pipeline.files.parquet._BUFFER", size)
    columns = [pa.array(values[:12]).cast(pa.string()).cast(kind) for values in (TEXTS, LABELS)]
    path = write(tmp_path / "a.parquet", *columns, row_group_size=4, compression="none")
    content = path.read_bytes()
    data_size = len(content) - 8 - int.from_bytes(content[-8:-4], "little")  # without the footer
    found = set()
    for position, value in itertools.product(range(4, data_size), (0x5F, 0x82)):
        path.write_bytes(content[:position] + bytes([value]) + content[position + 1 :])
        try:
            found.add(len(list(read_records(path, ["text", "label"]))))
        except RunError as error:
            found.add(type(error))
    assert found == {12, RunError}


def test_what_was_read_does_not_stay_in_memory(tmp_path):
    random = np.random.default_rng(0)
    texts = [random.bytes(20_000).hex() for _ in range(400)]
    path = write(tmp_path / "a.parquet", texts, ["a"] * 400, row_group_size=10)
    before = pa.total_allocated_bytes()
    for _ in read_records(path, ["text", "label"]):
        allocated = pa.total_allocated_bytes() - before
    assert allocated < path.stat().st_size / 4


@settings(IN_ONE_FOLDER, max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, data):
    """Any prefix is an error; a file with changed bytes is an error or has rows."""
    path = tmp_path / "a.parquet"
    content = bytearray(write(path, write_page_checksum=True).read_bytes())
    if data.draw(st.booleans(), "is cut"):
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        with pytest.raises(RunError, match=r"a\.parquet cannot be read as Parquet, [^:]*: [^\n]+$"):
            list(FileSource(str(path), SETTINGS).rows())
        return
    for _ in range(3):
        content[data.draw(st.integers(4, len(content) - 9))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    message = ""
    try:
        for _, record in read_records(path, ["text", "label"]):
            assert set(record) == {"text", "label"}
    except (RunError, UserError) as error:
        message = str(error)
    assert "\n" not in message
    assert not message or "a.parquet" in message
