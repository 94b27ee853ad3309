import dataclasses
import logging
import os
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from pipeline import reviews
from pipeline.cache import Cache
from pipeline.datasets import open_dataset
from trainer.data import make_vectorizer, open_data


def write(text):
    return lambda folder: (folder / "file").write_text(text)


def read(folder):
    return (folder / "file").read_text()


def test_an_entry_is_made_once_for_each_key(tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        write("1")(folder)

    for key in ({"a": 1}, {"a": 1}, {"a": 2}):
        assert Cache(tmp_path).get("entry", key, make=make, read=read) == "1"
    assert len(made) == 2


def test_what_a_failed_maker_leaves_is_gone_and_is_no_entry(tmp_path):
    def fail(folder):
        write("half")(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).get("entry", {}, make=fail, read=read)
    assert not list(tmp_path.iterdir())
    assert Cache(tmp_path).get("entry", {}, make=write("whole"), read=read) == "whole"


def test_what_a_killed_maker_left_does_no_harm_and_goes_after_a_day(tmp_path):
    Cache(tmp_path).get("entry", {}, make=write("whole"), read=read)
    (name,) = (path.name for path in tmp_path.iterdir())
    for age, suffix in ((0, "young"), (2, "old")):
        folder = tmp_path / f"{name}.{suffix}"
        folder.mkdir()
        write("half")(folder)
        os.utime(folder, (time.time() - age * 86_400,) * 2)
    assert Cache(tmp_path).get("entry", {}, make=write("again"), read=read) == "whole"
    Cache(tmp_path).get("other", {}, make=write("other"), read=read)
    assert (tmp_path / f"{name}.young").is_dir()
    assert not (tmp_path / f"{name}.old").exists()


def test_two_may_make_one_entry_at_once(tmp_path):
    both = threading.Barrier(2, timeout=20)
    got = []

    def make(folder):
        both.wait()
        write("same")(folder)

    def get():
        got.append(Cache(tmp_path).get("entry", {}, make=make, read=read))

    threads = [threading.Thread(target=get) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["same", "same"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_without_a_folder_goes_with_its_owner():
    cache = Cache(None)
    folder = cache.get("entry", {}, make=write("1"), read=lambda folder: folder)
    assert folder.is_dir()
    del cache
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["truncate", "remove", "garbage"])
def test_damaged_reviews_are_made_anew_with_a_warning(tmp_path, caplog, damage, monkeypatch):
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)
    parts = [(np.arange(5, dtype=np.uint16), [2, 3], [0, 1], [7, 8])]

    def get():
        return Cache(tmp_path).get(
            "r", {}, make=lambda folder: reviews.write(folder, parts), read=reviews.read
        )

    get()
    folder = next(tmp_path.iterdir())
    if damage == "truncate":
        os.truncate(folder / "values.bin", 7)
    elif damage == "remove":
        (folder / "labels.npy").unlink()
    else:
        (folder / "lengths.npy").write_bytes(b"garbage")
    again = get()
    assert [again.row(position).tolist() for position in range(2)] == [[0, 1], [2, 3, 4]]
    assert "is damaged" in caplog.text


def test_reviews_are_read_as_they_were_written(tmp_path):
    parts = [
        (np.array([300, 5], np.uint16), [1, 1], [0, 1], [7, 9_999]),
        (np.array([], np.uint16), [0], [1], [0]),
        (np.array([1, 2, 3], np.uint16), [3], [0], [4]),
    ]
    reviews.write(tmp_path, iter(parts))
    read_back = reviews.read(tmp_path)
    assert [read_back.row(i).tolist() for i in range(4)] == [[300], [5], [], [1, 2, 3]]
    assert read_back.labels.tolist() == [0, 1, 1, 0]
    assert read_back.buckets.tolist() == [7, 9_999, 0, 4]
    chosen = read_back[read_back.labels == 0]
    assert [chosen.row(i).tolist() for i in range(len(chosen))] == [[300], [1, 2, 3]]
    assert [len(part) for part in read_back.in_parts(3)] == [3, 1]


def test_what_training_reads_is_what_the_vectorizer_makes_of_each_text(small_config, tmp_path):
    config = dataclasses.replace(small_config, cache_dir=str(tmp_path))
    data = open_data(config)
    vectorizer = make_vectorizer(data.vocabulary(), config)
    for _ in ("made", "from the cache"):
        examples = data.examples("test", vectorizer)
        dataset = open_dataset(config.dataset, data_dir=config.data_dir, download=False)
        texts, labels = (np.concatenate(part) for part in zip(*dataset.read("test"), strict=True))
        expected = vectorizer(tf.constant(texts)).to_list()
        assert [examples.row(i).tolist() for i in range(len(examples))] == expected
        assert (examples.labels == labels).all()
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {
        "texts",
        "tokens",
        "vocabulary",
    }


@pytest.mark.parametrize(
    "change", [{"vocab_size": 400}, {"sequence_length": 39}, {"truncate": "head"}]
)
def test_other_settings_are_other_entries(small_config, tmp_path, change):
    def tokens(config):
        data = open_data(config)
        examples = data.examples("train", make_vectorizer(data.vocabulary(), config))
        return [examples.row(i).tolist() for i in range(len(examples))]

    cached = dataclasses.replace(small_config, cache_dir=str(tmp_path))
    tokens(cached)
    changed = dataclasses.replace(cached, **change)
    assert tokens(changed) == tokens(dataclasses.replace(changed, cache_dir=""))
