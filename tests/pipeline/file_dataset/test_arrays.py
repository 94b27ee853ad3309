"""Data in memory becomes the data set that a file with the same rows would be."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline
from pipeline.cache import Cache
from pipeline.errors import UserError
from pipeline.file_dataset.dataset import RowDataset, RowSettings
from pipeline.file_dataset.splitting import SplitSettings
from tests.pipeline.file_dataset.test_file_dataset import (
    ROWS,
    all_texts,
    opened,
    read,
    write_csv,
)
from tests.small import ROOT
from trainer.config import TrainConfig
from trainer.data import open_corpus

TEXTS, LABELS = zip(*ROWS, strict=True)


def opened_arrays(*arguments, skip=False, label_names=None, **options):
    rows = RowSettings((), "", "", skip_bad_rows=skip)
    data = pipeline.from_arrays(*arguments, **options)
    return RowDataset(data, rows, SplitSettings(0.2, 0.2), label_names=label_names)


def test_data_in_memory_is_that_of_a_file(tmp_path):
    files, arrays = opened(write_csv(tmp_path / "a.csv")), opened_arrays(TEXTS, LABELS)
    assert arrays.name == "in memory"
    assert arrays.fingerprint == files.fingerprint
    assert arrays.label_names == files.label_names
    for split in ("train", "validation", "test"):
        assert read(arrays, split) == read(files, split)
        assert arrays.class_counts(split) == files.class_counts(split)
    assert all_texts(arrays) == all_texts(files)


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (list(TEXTS), iter(LABELS)),
        (np.array(TEXTS), np.array(LABELS)),
        (np.array(TEXTS, object), np.array([label.encode() for label in LABELS])),
        ([text.encode() for text in TEXTS], pd.Series(LABELS).astype("category")),
        (pd.Series(TEXTS, index=range(200, 0, -1)), pd.Series(LABELS, dtype="string")),
    ],
)
def test_lists_arrays_and_columns_are_the_same_data(texts, labels):
    assert opened_arrays(texts, labels).fingerprint == opened_arrays(TEXTS, LABELS).fingerprint


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 1], ("0", "1")),
        (np.array([4.0, 5.0], np.float32), ("4", "5")),
        ([True, False], ("False", "True")),
        (np.array([True, False]), ("False", "True")),
        (np.array([[10], [9]], np.uint8), ("9", "10")),
        ([" a ", "b"], ("a", "b")),
    ],
)
def test_labels_become_text(labels, expected):
    assert opened_arrays(TEXTS[:40], [*labels] * 20).label_names == expected


@pytest.mark.parametrize(
    ("texts", "labels", "problem"),
    [
        (["a", "b"], ["x", None], ":1: no label;"),
        (["a", "b"], [float("nan"), "x"], ":0: no label;"),
        (["a", "b"], pd.array([1, None], dtype="Int64"), ":1: a NAType is not a label;"),
        (["a", "b"], ["x", ["y"]], ":1: a list is not a label;"),
        (["a", "b"], ["x", "\ud800"], ":1: .* is not a label;"),
        (["a", None], ["x", "y"], ":1: no text;"),
        (pd.Series(["a", None]), ["x", "y"], ":1: no text;"),
        ([3, "a"], ["x", "y"], ":0: no text but '3';"),
        ([pd.NA, "a"], ["x", "y"], ":0: no text;"),
        ([b"\xff", "a"], ["x", "y"], ":0: the text is not UTF-8;"),
        ([["a"], "b"], ["x", "y"], ":0: no text but"),
        (["a", "b"], [np.eye(2)[0], "x"], ":0: an array is not a label;"),
    ],
)
def test_a_bad_row_is_an_error_with_its_position_or_skipped(texts, labels, problem):
    message = rf"1 of 202 rows of in memory cannot be used: in memory{problem}.*skip_bad_rows"
    texts, labels = [*texts, *TEXTS], [*labels, *LABELS]
    with pytest.raises(UserError, match=message):
        opened_arrays(texts, labels)
    assert sum(opened_arrays(texts, labels, skip=True).class_counts("train")) > 100


def test_the_number_of_labels_and_splits_is_checked_at_once():
    with pytest.raises(UserError, match=r"^mine has 2 texts, but 1 labels$"):
        pipeline.from_arrays(["a", "b"], ["x"], name="mine")
    with pytest.raises(UserError, match="in memory has 1 texts, but 2 splits"):
        pipeline.from_arrays(["a"], ["x"], splits=["train", "test"])
    with pytest.raises(TypeError, match="the texts are one string"):
        pipeline.from_arrays("a b", ["x"] * 3)
    for table in (np.eye(2), pd.DataFrame({"a": ["b"], "c": ["d"]}), None):
        with pytest.raises(TypeError, match="is no list; give a list"):
            pipeline.from_arrays(table, ["x", "y"])


def test_labels_keep_the_shortest_form_of_their_type_and_no_spaces():
    arrays = opened_arrays(TEXTS, np.where(np.arange(len(TEXTS)) % 2, 0.1, 0.7).astype(np.float32))
    assert arrays.label_names == ("0.1", "0.7")
    spaced, table = [" neg ", "pos"] * (len(TEXTS) // 2), pd.DataFrame({"text": TEXTS})
    assert opened_arrays(table, spaced).label_names == ("neg", "pos")


def test_splits_are_named_by_words():
    words = np.array(["train", "dev", "TEST", "unsupervised"] * 10)
    labels = [None if word == "unsupervised" else n // 4 % 2 for n, word in enumerate(words)]
    arrays = opened_arrays(TEXTS[:40], labels, splits=words)
    for number, split in enumerate(("train", "validation", "test", "unsupervised")):
        found = read(arrays, split)
        assert [text for text, _ in found] == list(TEXTS[number:40:4])
        assert {label for _, label in found} == ({-1} if split == "unsupervised" else {0, 1})
    with pytest.raises(UserError, match="in memory:1: 'later' is not a split"):
        opened_arrays(["a", "b"], [0, 1], splits=["train", "later"])


def test_the_identity_is_that_of_texts_labels_and_splits():
    words = ["train"] * 100 + ["test"] * 100
    before = opened_arrays(TEXTS, LABELS, splits=words)
    changed = [
        ((["other", *TEXTS[1:]], LABELS), words),
        ((TEXTS, LABELS[::-1]), words),
        ((TEXTS, LABELS), words[::-1]),
    ]
    for arguments, splits in changed:
        other = opened_arrays(*arguments, splits=splits)
        assert other.fingerprint != before.fingerprint
        assert other.identity != before.identity
    assert opened_arrays(TEXTS, LABELS, splits=words, name="b").identity == before.identity


def test_open_corpus_opens_data_with_the_settings_of_a_run(tmp_path):
    config = TrainConfig(cache_dir=str(tmp_path), label_map="fine:good", test_fraction=0.5)
    config_bad = TrainConfig(cache_dir=str(tmp_path), positive_label="bad")
    data = pipeline.from_arrays(TEXTS, LABELS)
    corpus = open_corpus(config, data=data)
    assert corpus.dataset.label_names == ("bad", "good")
    assert corpus.dataset.size("test") > 70
    assert len(corpus.words("train")) == corpus.dataset.size("train")
    assert set(corpus.fingerprints(["train"])) == {"arrays"}
    assert open_corpus(config_bad, data=data).dataset.label_names == ("fine", "bad")


def test_the_import_of_pipeline_and_from_arrays_is_light():
    program = (
        "import sys, pipeline; pipeline.from_arrays(['a'], ['b']); "
        "sys.exit('tensorflow' in sys.modules or 'pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


VALUES = st.one_of(st.integers(), st.booleans(), st.text(min_size=1), st.sampled_from(["a", "b"]))
SHARED = Cache(None)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(), VALUES), max_size=8))
def test_any_texts_come_back_as_they_are_written(rows):
    kept = [(t, v) for t, v in rows if str(v).strip()]
    kept += [("first", "one"), ("second", "two")]
    texts, labels = zip(*kept, strict=True)
    words = ["train"] * len(texts)
    data = pipeline.from_arrays(
        [*texts, "v", "t"], [*labels, "one", "one"], splits=[*words, "validation", "test"]
    )
    arrays = RowDataset(data, RowSettings((), "", ""), SplitSettings(0.2, 0.2), cache=SHARED)
    found = read(arrays, "train")
    assert [text for text, _ in found] == list(texts)
    assert [arrays.label_names[n] for _, n in found] == [str(label).strip() for label in labels]
