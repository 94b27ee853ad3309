"""The files that a path, folder or pattern finds."""

import json
import logging
import os

import pytest

from pipeline.errors import UserError
from pipeline.files.records import find_files


def make(path, content="text,label\na,x\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def names(root, found):
    return sorted(str(path.relative_to(root)) for path in found)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    for name in ("train.csv", "more/deep/test.tsv", "more/x.jsonl.gz", ".hidden/y.csv"):
        make(root / name)
    make(root / "more" / "._x.jsonl")
    make(root / "notes.txt")
    return root


def test_hidden_files_are_skipped(folder):
    found = ["more/deep/test.tsv", "more/x.jsonl.gz", "train.csv"]
    assert names(folder, find_files(str(folder))) == found
    assert names(folder, find_files(str(folder / "**" / "*.*sv"))) == [found[0], found[2]]


def test_a_folder_below_a_hidden_one_is_read(tmp_path):
    path = make(tmp_path / ".cache" / "data" / "a.csv")
    assert find_files(str(path.parent)) == [path]


def test_folders_of_runs_are_skipped_and_logged(folder, caplog):
    caplog.set_level(logging.INFO)
    run = folder / "runs" / "a"
    make(run / "evaluation" / "test" / "errors.csv")
    make(run / "config.json", json.dumps({"settings": {}}))
    make(folder / "other" / "config.json", '{"name": "not of a run"}')
    make(folder / "other" / "a.csv")
    expected = ["more/deep/test.tsv", "more/x.jsonl.gz", "other/a.csv", "train.csv"]
    assert names(folder, find_files(str(folder))) == expected
    assert f"skipped {run}: it is the folder of a run" in caplog.text
    caplog.clear()
    assert names(folder, find_files(str(folder / "**" / "*.csv"))) == ["other/a.csv", "train.csv"]
    assert f"skipped {run}: it is the folder of a run" in caplog.text
    # A path that is given is read.
    assert len(find_files(str(run / "evaluation" / "test" / "errors.csv"))) == 1
    assert len(find_files(str(run / "evaluation" / "*" / "*.csv"))) == 1
    with pytest.raises(UserError, match="is the folder of a run"):
        find_files(str(run))


def test_links_to_folders_are_followed_into_each_folder_once(folder, tmp_path):
    make(tmp_path / "elsewhere" / "z.csv")
    make(tmp_path / "elsewhere" / "sub" / "w.csv")
    (folder / "a_link").symlink_to(tmp_path / "elsewhere")
    (folder / "more" / "another").symlink_to(tmp_path / "elsewhere")
    (folder / "more" / "loop").symlink_to(folder)
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    (folder / "a_more").symlink_to(folder / "more")
    (folder / "broken").symlink_to(tmp_path / "nothing")
    found = names(folder, find_files(str(folder)))
    assert found == [
        "more/another/sub/w.csv",
        "more/another/z.csv",
        "more/deep/test.tsv",
        "more/x.jsonl.gz",
        "train.csv",
    ]


def test_a_link_to_a_file_of_the_same_folder_is_skipped(folder):
    (folder / "a.csv").symlink_to(folder / "train.csv")
    (folder / "new").mkdir()
    os.link(folder / "train.csv", folder / "new" / "copy.csv")  # a hard link counts as another file
    found = names(folder, find_files(str(folder)))
    assert found == ["more/deep/test.tsv", "more/x.jsonl.gz", "new/copy.csv", "train.csv"]


def test_json_beside_tables_is_skipped_and_logged(folder, caplog):
    caplog.set_level(logging.INFO)
    make(folder / "dataset_info.json", "{}")
    assert len(find_files(str(folder))) == 3
    assert "skipped 1 .json files" in caplog.text
    assert names(folder, find_files(str(folder / "*.json"))) == ["dataset_info.json"]
    make(folder / "all json" / "train.json", "[]")
    assert len(find_files(str(folder / "all json"))) == 1


def test_a_pattern_does_not_match_folders(folder):
    (folder / "of.csv").mkdir()
    assert names(folder, find_files(str(folder / "*.csv"))) == ["train.csv"]


@pytest.mark.parametrize("name", ["notes.txt", "a.xlsx", "a.zip", "a"])
def test_files_of_other_formats_are_refused(folder, name):
    make(folder / name)
    with pytest.raises(UserError, match=rf"{name} is not one of .csv, .tsv, .jsonl"):
        find_files(str(folder / name))


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"a.csv is a pipe or device"):
        find_files(str(tmp_path / "a.csv"))


def test_other_files_that_may_have_rows_are_skipped_and_logged(folder, caplog):
    caplog.set_level(logging.INFO)
    make(folder / "test.arrow")
    make(folder / "more" / "b.xlsx")
    assert len(find_files(str(folder))) == 3
    assert f"skipped 2 files of {folder} that may have rows, such as 'b.xlsx'" in caplog.text


def test_a_dangling_link_is_an_error(tmp_path):
    (tmp_path / "a.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(UserError, match=r"a.csv is a link to a missing file"):
        find_files(str(tmp_path))
