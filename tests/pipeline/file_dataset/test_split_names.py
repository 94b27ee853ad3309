"""The split of a file by its name."""

from pathlib import Path

import pytest

from pipeline.file_dataset.split_names import log_file_splits, split_of_file

ROOT = Path("/data")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.csv", "train"),
        ("reviews_train.csv", "train"),
        ("reviews-test.csv", "test"),
        ("reviews.test.csv.gz", "test"),
        ("Test 2019.tsv", "test"),
        ("test-00000-of-00002.jsonl", "test"),
        ("val_d_isere_hotels.csv", "validation"),
        ("dev/reviews.csv", "validation"),
        ("test/train.csv", "train"),
        ("unlabelled/a.csv", "unsupervised"),
        ("hotels_of_val_thorens.csv", "train"),
        ("a_test_of_courage.csv", "train"),
        ("latest.csv", "train"),
        ("d\u00e9test.csv", "train"),
        ("greatest-hits/contest.csv", "train"),
        ("train_test.csv", "train"),
        ("test_of_valid.csv", "train"),
        ("reviews.csv", "train"),
        ("test", "test"),
    ],
)
def test_the_first_or_last_word_of_a_file_name_is_its_split(name, split):
    assert split_of_file(ROOT / name, ROOT) == split


def test_folders_above_the_data_do_not_count():
    root = Path("/home/dev/test")
    assert split_of_file(root / "reviews.csv", root) == "train"


def test_the_split_of_each_file_is_logged(caplog):
    caplog.set_level("INFO")
    names = ["a.csv", "val_d_isere.csv", *(f"test/{n}.csv" for n in range(7)), "test_train.csv"]
    log_file_splits({ROOT / name: split_of_file(ROOT / name, ROOT) for name in names})
    train, validation, test, flag = caplog.messages
    assert train == "split train: data/a.csv, data/test_train.csv"
    assert validation == "split validation: data/val_d_isere.csv"
    assert test.startswith("split test: test/0.csv, test/1.csv,")
    assert test.endswith("test/4.csv and 2 more")
    assert "--splits_from_names=false" in flag


@pytest.mark.parametrize("split", ["train", "validation", "test", "unsupervised"])
def test_hugging_face_file_names_have_a_split(split):
    path = ROOT / "data" / f"{split}-00000-of-00001.parquet"
    assert split_of_file(path, ROOT) == split
