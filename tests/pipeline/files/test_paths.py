"""Whether --dataset names files or a data set of TensorFlow Datasets."""

import pytest

from pipeline import DATASETS
from pipeline.files.paths import names_files


@pytest.mark.parametrize(
    "name",
    [
        *DATASETS,
        "ag_news_subset",
        "glue/sst2",
        "imdb_reviews/plain_text:1.0.0",
        "imdb_reviews:1.*.*",
        "huggingface:user__data/default",
        "imdb",
    ],
)
def test_other_names_are_of_tfds(name):
    assert not names_files(name)


@pytest.mark.parametrize(
    "name",
    ["a.csv", "./a", "/a/b", "a/*.csv", "~/a", "a/b/c", "../data", "reviews-*", "gs://b/c", "a b"],
)
def test_paths_and_patterns_are_files_also_if_they_do_not_exist(name):
    assert names_files(name)


def test_an_existing_folder_wins_and_this_is_logged(tmp_path, monkeypatch, project_log):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glue" / "sst2").mkdir(parents=True)
    (tmp_path / "imdb_reviews").mkdir()
    project_log.set_level("INFO", logger="pipeline")
    assert names_files("glue/sst2")
    assert "glue/sst2 is read from the path of this name" in project_log.text
    assert not names_files("glue/cola")
    assert not names_files("imdb_reviews")
