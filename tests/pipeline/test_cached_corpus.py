"""Examples in the cache."""

import dataclasses
import logging
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline import cache, examples
from pipeline.cache import Cache
from pipeline.named_dataset.dataset import open_dataset
from trainer.data import make_tokenizer, open_corpus


def entries(root):
    """The finished entries of a cache."""
    return {path.parent for path in root.glob("text-sentiment-cache/*/entry.json")}


@pytest.mark.parametrize("damage", ["truncate", "remove", "garbage"])
def test_damaged_examples_are_made_again_with_a_warning(tmp_path, caplog, damage, monkeypatch):
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)
    chunks = [(np.arange(5, dtype=np.uint16), [2, 3], [0, 1], [7, 8])]

    def get():
        return Cache(tmp_path).get(
            "r",
            {},
            make=lambda folder: examples.write_examples(folder, chunks),
            read=examples.read_examples,
        )

    get()
    (folder,) = entries(tmp_path)
    if damage == "truncate":
        os.truncate(folder / "values.bin", 7)
    elif damage == "remove":
        (folder / "labels.npy").unlink()
    else:
        (folder / "lengths.npy").write_bytes(b"garbage")
    again = get()
    assert [again.row(position).tolist() for position in range(2)] == [[0, 1], [2, 3, 4]]
    assert "is damaged" in caplog.text


def test_examples_are_read_as_written(tmp_path):
    chunks = [
        (np.array([300, 5], np.uint16), [1, 1], [0, 1], [7, 9_999]),
        (np.array([], np.uint16), [0], [1], [0]),
        (np.array([1, 2, 3], np.uint16), [3], [0], [4]),
    ]
    examples.write_examples(tmp_path, iter(chunks))
    read_back = examples.read_examples(tmp_path)
    assert [read_back.row(i).tolist() for i in range(4)] == [[300], [5], [], [1, 2, 3]]
    assert read_back.labels.tolist() == [0, 1, 1, 0]
    assert read_back.hash_buckets.tolist() == [7, 9_999, 0, 4]
    chosen = read_back[read_back.labels == 0]
    assert [chosen.row(i).tolist() for i in range(len(chosen))] == [[300], [1, 2, 3]]
    assert [len(chunk) for chunk in read_back.in_chunks(3)] == [3, 1]


def test_values_are_read_at_once_also_across_two_sets_of_examples():
    first, second = (
        examples.unlabelled_examples(tf.ragged.constant(rows, tf.int32))
        for rows in ([[1, 2], [3]], [[4], [5, 6], [7]])
    )
    both = first.concatenate(second)
    assert both.read().tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert both[np.array([4, 1, 2])].read().tolist() == [7, 3, 4]
    assert both[:0].read().tolist() == []
    assert both.values.gather(tf.constant([0, 2, 3, 6], tf.int64)).numpy().tolist() == [1, 3, 4, 7]


def test_cached_token_ids_equal_the_vectorizers(small_config, tmp_path):
    config = dataclasses.replace(small_config, cache_dir=str(tmp_path))
    data = open_corpus(config)
    vectorizer = make_tokenizer(data.vocabulary(), config)
    for _ in ("made", "from the cache"):
        examples = data.examples("test", vectorizer)
        dataset = open_dataset(config.dataset, data_dir=config.data_dir, download=False)
        texts, labels = (np.concatenate(chunk) for chunk in zip(*dataset.read("test"), strict=True))
        expected = vectorizer(tf.constant(texts)).to_list()
        assert [examples.row(i).tolist() for i in range(len(examples))] == expected
        assert (examples.labels == labels).all()
    assert {path.name.split("-")[0] for path in entries(tmp_path)} == {
        "tokens",
        "vocabulary",
        "words",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"vocab_size": 400},
        pytest.param({"sequence_length": 39}, marks=pytest.mark.slow),
        pytest.param({"truncate": "head"}, marks=pytest.mark.slow),
    ],
)
def test_other_settings_use_other_entries(small_config, tmp_path, change):
    def tokens(config):
        data = open_corpus(config)
        examples = data.examples("train", make_tokenizer(data.vocabulary(), config))
        return [examples.row(i).tolist() for i in range(len(examples))]

    cached = dataclasses.replace(small_config, cache_dir=str(tmp_path))
    tokens(cached)
    changed = dataclasses.replace(cached, **change)
    assert tokens(changed) == tokens(dataclasses.replace(changed, cache_dir=""))


@pytest.mark.parametrize(
    "changed",
    [
        "pipeline/corpus.py",
        pytest.param("pipeline/vocabulary.py", marks=pytest.mark.slow),
        pytest.param("keras", marks=pytest.mark.slow),
    ],
)
def test_other_code_or_another_keras_uses_other_entries(small_config, tmp_path, changed):
    """Everything that an entry depends on is in its key."""

    def tokens():
        cache.code_hash.cache_clear()
        config = dataclasses.replace(small_config, cache_dir=str(tmp_path))
        open_corpus(config).vocabulary()
        return len(entries(tmp_path))

    read_bytes, before = Path.read_bytes, tokens()
    assert tokens() == before
    with pytest.MonkeyPatch.context() as patch:
        if changed == "keras":
            patch.setattr(keras, "__version__", "0.0.1")
        else:
            patch.setattr(
                Path,
                "read_bytes",
                lambda path: read_bytes(path) + b"#" * path.as_posix().endswith(changed),
            )
        assert tokens() == 2 * before
    cache.code_hash.cache_clear()
