"""RowDataset reads the user's files, and reports invalid rows by file and line."""

import csv
import dataclasses
import gzip
import io
import itertools
import json

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import RunError, UserError
from pipeline.file_dataset.dataset import RowDataset, RowSettings
from pipeline.file_dataset.sources import FileSource
from pipeline.file_dataset.splitting import SplitSettings
from pipeline.files.file_format import FileFormat
from trainer.config import TrainConfig
from trainer.data import open_corpus

NAMES = (("text",), "label", "")


ROWS = [(f"review {number}, with a comma", ("bad", "fine")[number % 2]) for number in range(200)]


def write_csv(path, rows=ROWS, header=("text", "label"), delimiter=","):
    content = io.StringIO(newline="")
    csv.writer(content, delimiter=delimiter).writerows([header, *rows])
    data = content.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_jsonl(path, rows=ROWS):
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def opened(
    path, columns=NAMES, *, skip=False, test_fraction=0.2, drop=False, label_names=None, **settings
):
    settings = RowSettings(*columns, skip_bad_rows=skip, **settings)
    source = FileSource(str(path), settings)
    splits = SplitSettings(0.2, test_fraction, drop_duplicates=drop)
    return RowDataset(source, settings, splits, label_names=label_names)


def read(files, split):
    parts = [part for part in files.read(split).as_numpy_iterator() if len(part[0])]
    if not parts:
        return []
    texts, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return [(text.decode(), label) for text, label in zip(texts, labels.tolist(), strict=True)]


def all_texts(files):
    splits = ("train", "validation", "test")
    parts = [files.texts_at(split, np.arange(files.size(split))) for split in splits]
    return list(itertools.chain(*parts))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.jsonl"])
def test_every_file_format_is_read_and_each_example_is_in_one_split(tmp_path, name):
    path = tmp_path / name
    if name.endswith("jsonl"):
        write_jsonl(path)
    else:
        write_csv(path, delimiter="\t" if "tsv" in name else ",")
    files = opened(path)
    assert files.label_names == ("bad", "fine")
    parts = {split: read(files, split) for split in ("train", "validation", "test")}
    assert {split: files.size(split) for split in files.splits} == {
        split: len(part) for split, part in parts.items()
    }
    assert 20 < len(parts["test"]) < 60
    assert 15 < len(parts["validation"]) < 50
    assert sorted(itertools.chain(*parts.values())) == sorted(
        (text, int(label == "fine")) for text, label in ROWS
    )


def test_copies_of_a_text_in_files_are_in_one_split(tmp_path):
    files = opened(write_csv(tmp_path / "a.csv", ROWS + ROWS))
    splits = ("train", "validation", "test")
    texts = [{text for text, _ in read(files, split)} for split in splits]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 200


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("1", "0"), ("0", "1")),
        (("pos", "neg"), ("neg", "pos")),
        (("Positive", "negative"), ("negative", "Positive")),
        (("yes", "no"), ("no", "yes")),
    ],
)
def test_the_positive_label_is_the_second(tmp_path, labels, expected):
    rows = [(f"text {number}", labels[number % 2]) for number in range(10)]
    assert opened(write_csv(tmp_path / "a.csv", rows)).label_names == expected


def test_a_column_sets_the_splits(tmp_path):
    words = ["train", "dev", "TEST", "unlabelled"]
    rows = [
        (f"text {number}", "" if number % 4 == 3 else number // 4 % 2, words[number % 4])
        for number in range(40)
    ]
    path = write_csv(tmp_path / "a.csv", rows, header=("review", "stars", "part"))
    files = opened(path, (("review",), "stars", "part"))
    for number, split in enumerate(("train", "validation", "test", "unsupervised")):
        found = read(files, split)
        assert [text for text, _ in found] == [f"text {n}" for n in range(number, 40, 4)]
        assert {label for _, label in found} == ({-1} if split == "unsupervised" else {0, 1})


@pytest.mark.parametrize("pattern", ["", "*.csv", "**/*.csv"])
def test_file_names_set_the_splits(tmp_path, pattern):
    folder = tmp_path / "my reviews"
    folder.mkdir()
    write_csv(folder / "reviews_train.csv", ROWS[:100])
    write_csv(folder / "reviews-test.csv", ROWS[100:])
    (folder / "notes.txt").write_text("no reviews")
    files = opened(folder / pattern)
    assert len(read(files, "train")) == files.size("train")
    assert files.size("train") + files.size("validation") == 100
    assert {text for text, _ in read(files, "test")} == {text for text, _ in ROWS[100:]}


def test_line_breaks_quotes_and_marks_are_kept(tmp_path):
    path = tmp_path / "a.csv"
    rows = b'text,label\r\n"two\nlines, ""quoted""",x\r\ncaf\xc3\xa9\0,y\r\n'
    path.write_bytes(b"\xef\xbb\xbf" + rows)
    files = opened(path, test_fraction=0.001)
    assert sorted(all_texts(files), reverse=True) == [
        b'two\nlines, "quoted"',
        b"caf\xc3\xa9\0",
    ]


def test_the_settings_of_the_format_reach_the_reader_and_the_cache_key(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('text~label\n"caf\u00e9~x\nvu"~y\n'.encode("cp1252"))
    forms = [FileFormat("cp1252", "~", "none"), FileFormat("latin-1", "~", "none")]
    files, other = (opened(path, test_fraction=0.001, file_format=form) for form in forms)
    assert sorted(all_texts(files)) == ['"caf\u00e9'.encode(), b'vu"']
    assert files.identity != other.identity


def test_bad_rows_are_errors_with_file_and_line_or_skipped_and_counted(tmp_path, caplog):
    bad = [("no label", ""), ("too", "bad", "many")]
    path = write_csv(tmp_path / "a.csv", [*ROWS, bad[0], ("right", "bad"), bad[1]])
    with pytest.raises(
        UserError, match=r"2 of 203 rows of .*a\.csv:202: no label.*:204: more .*skip"
    ):
        opened(path)
    files = opened(path, skip=True)
    assert sum(map(files.size, files.splits)) == 201
    assert len(read(files, "train")) == files.size("train")
    assert "skipped 2 rows" in caplog.text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: write_csv(p / "a.csv", header=("review", "label")),
            "no column 'text', but 'rev",
        ),
        (
            lambda p: write_csv(p / "a.csv", ROWS[:1]),
            r"has 1 label \('bad'\); it needs 2 to 1000; are text_column=text",
        ),
        (
            lambda p: write_csv(p / "a.csv", [("", label) for _, label in ROWS]),
            r"all 200 texts of .*a\.csv are empty; are text_column=text and",
        ),
        (lambda p: write_csv(p / "a_test.csv"), "has no row in the train split"),
        (lambda p: p / "no.csv", "nor a file, folder or pattern"),
        (lambda p: write_csv(p / "a.xls"), "is not one of .csv, .tsv, .jsonl"),
    ],
)
def test_invalid_files_are_user_errors(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        opened(make(tmp_path))


def test_a_train_split_of_copies_that_are_all_dropped_is_an_error(tmp_path):
    rows = [(text, label) for text, label in (("a", "bad"), ("b", "fine"))]
    for split in ("train", "test"):
        write_csv(tmp_path / f"{split}.csv", rows)
    assert opened(tmp_path).size("train") == 2
    with pytest.raises(UserError, match=r"no row in the train split; .*drop_duplicates dropped"):
        opened(tmp_path, drop=True)


def test_an_invalid_json_line_is_an_error(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl")
    path.write_text(path.read_text() + '{"text": "cut of\n[1]\n{"label": 1}\n')
    with pytest.raises(
        UserError, match=r"3 rows.*:201: not a JSON object.*:202: no.*:203: no text"
    ):
        opened(path)


def test_a_truncated_gzip_file_is_a_run_error(tmp_path):
    path = write_csv(tmp_path / "a.csv.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match=r"a\.csv\.gz cannot be read"):
        opened(path)


def test_a_changed_column_is_another_run(small_config):
    other = dataclasses.replace(small_config, text_column="body")
    assert small_config.differences(other) == ["text_column (text, not body)"]


def test_files_without_a_usable_row_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"a.csv has no rows with a text and a label; are text"):
        opened(write_csv(tmp_path / "a.csv", []))
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(UserError, match=r"a.json has no rows"):
        opened(tmp_path / "a.json")
    path = write_jsonl(tmp_path / "a.jsonl", [(5, "bad"), (None, "fine")])
    with pytest.raises(UserError, match=r"a.jsonl has no rows with .*; are text_column=text and"):
        opened(path, skip=True)


@pytest.mark.parametrize(("label", "kind"), [(["bad"], "list"), ({"name": "bad"}, "dict")])
def test_lists_and_objects_are_not_labels(tmp_path, label, kind):
    path = write_jsonl(tmp_path / "a.jsonl", [*ROWS, ("x", label)])
    with pytest.raises(
        UserError, match=rf"1 rows .*a.jsonl:201: a {kind} in 'label' is not a label"
    ):
        opened(path)
    assert opened(path, skip=True).label_names == ("bad", "fine")


def test_a_read_error_in_files_never_advises_to_remove_them(tmp_path, monkeypatch):
    def fail(*_):
        raise tf.errors.NotFoundError(None, None, "gone")

    corpus = open_corpus(TrainConfig(dataset=str(write_csv(tmp_path / "a.csv")), cache_dir=""))
    monkeypatch.setattr(RowDataset, "read", fail)
    with pytest.raises(RunError, match=r"a\.csv cannot be read") as raised:
        corpus.words("train")
    assert "rm -r" not in str(raised.value)


def numbered(count, labels):
    return [(f"text {n}", f"class {n % labels}") for n in range(count)]


@pytest.mark.parametrize("labels", [3, 1000])
def test_any_number_of_labels_is_read(tmp_path, labels):
    files = opened(write_csv(tmp_path / "a.csv", numbered(4 * labels, labels)))
    assert files.label_names == tuple(sorted(f"class {n}" for n in range(labels)))
    found = [row for split in ("train", "validation", "test") for row in read(files, split)]
    assert sorted((text, files.label_names[n]) for text, n in found) == sorted(
        numbered(4 * labels, labels)
    )
    assert all(min(files.class_counts(split)) for split in ("train", "validation", "test"))


def test_more_than_a_thousand_labels_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"more than 1000 different labels.*label_column"):
        opened(write_csv(tmp_path / "a.csv", numbered(1001, 1001)))


def test_many_labels_that_look_alike_are_one_short_warning(tmp_path, caplog):
    rows = [(f"text {n}", f"{'cC'[n % 2]}lass {n // 2 % 100}") for n in range(2000)]
    opened(write_csv(tmp_path / "a.csv", rows)).log_findings()
    (message,) = (m for m in caplog.messages if "look alike" in m)
    assert "'class 0' and 'Class 0'" in message or "'Class 0' and 'class 0'" in message
    assert "label_map" in message
    assert len(message) < 400 + len(str(tmp_path))


def test_data_with_fewer_labels_can_be_evaluated_but_not_with_others(tmp_path):
    path = write_csv(tmp_path / "a.csv")
    assert opened(path, label_names=("a", "bad", "fine")).class_counts("train")[0] == 0
    with pytest.raises(
        UserError, match=r"has the labels 'bad', 'fine', but the run .* on 'a', 'b'"
    ):
        opened(path, label_names=("a", "b"))


def test_text_columns_are_joined(tmp_path):
    rows = [("one", "two", "x"), ("", "three", "y"), ("four", "", "x"), ("", "", "y")]
    path = write_csv(tmp_path / "a.csv", rows, header=("title", "body", "label"))
    columns = (("title", "body"), "label", "")
    found = [row.text for row in FileSource(str(path), RowSettings(*columns)).rows()]
    assert found == [b"one two", b"three", b"four", b""]
    with pytest.raises(UserError, match=r"no column 'boby', but 'title'.*no name may have a com"):
        opened(path, (("title", "boby"), "label", ""))


def test_missing_texts_of_several_columns(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [
        {"title": "a", "body": None},
        {"body": "b"},
        {"title": None},
        {"title": 3, "body": "c"},
    ]
    path.write_text("".join(json.dumps({**line, "label": "x"}) + "\n" for line in lines))
    rows = list(FileSource(str(path), RowSettings(("title", "body"), "label", "")).rows())
    assert [row.text for row in rows[:2]] == [b"a", b"b"]
    assert [row.problem for row in rows[2:]] == [
        f"no text{but} in 'title,body', which --text_column names" for but in ("", " but '3'")
    ]
    with pytest.raises(UserError, match="no row has the column 'boby', which text_column=title,b"):
        opened(path, (("title", "boby"), "label", ""))


def test_whole_numbers_in_json_are_one_label(tmp_path):
    path = write_jsonl(
        tmp_path / "a.jsonl", [(text, n % 2 + 0.0) for n, (text, _) in enumerate(ROWS)]
    )
    assert opened(path).label_names == ("0", "1")
