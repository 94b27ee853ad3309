"""Data sets of TFDS by name, with random texts from tfds.testing.mock_data."""

import pytest
import tensorflow_datasets as tfds

from pipeline.errors import RunError, UserError
from pipeline.named_dataset.dataset import open_dataset
from trainer.config import TrainConfig
from trainer.data import make_tokenizer, open_corpus

EXAMPLES = 600


@pytest.fixture
def mocked(tmp_path):
    """Writes the metadata that mock_data needs, and replaces the data of TFDS by random data."""

    def mocked(name, splits):
        builder = tfds.builder(name, data_dir=tmp_path)
        infos = [
            tfds.core.SplitInfo(name=split, shard_lengths=[EXAMPLES], num_bytes=1)
            for split in splits
        ]
        builder.info.set_splits(tfds.core.SplitDict(infos))
        builder.data_path.mkdir(parents=True)
        builder.info.write_to_directory(builder.data_path)
        return tfds.testing.mock_data(num_examples=EXAMPLES, data_dir=str(tmp_path))

    return mocked


@pytest.mark.parametrize(
    ("name", "splits", "columns", "classes", "sizes"),
    [
        ("ag_news_subset", "train test", "description label", 4, {"test": 600}),
        pytest.param(
            *("yelp_polarity_reviews", "train test", "text label", 2, {"test": 600}),
            marks=pytest.mark.slow,
        ),
        ("glue/sst2", "train validation test", "sentence label", 2, {"validation": 600}),
        ("glue/sst2:2.0.0", "train", "sentence label", 2, {}),
        ("sentiment140", "train test", "text polarity", None, {}),
    ],
)
def test_a_known_data_set_becomes_token_ids(mocked, name, splits, columns, classes, sizes):
    config = TrainConfig(dataset=name, cache_dir="", vocab_size=500)
    with mocked(name, splits.split()):
        corpus = open_corpus(config)
        dataset = corpus.dataset
        assert " ".join([*dataset.text_columns, dataset.label_column]) == columns
        assert len(dataset.label_names) == classes or classes is None
        tokenizer = make_tokenizer(corpus.vocabulary(), config)
        examples = {s: corpus.examples(s, tokenizer) for s in ("train", "validation", "test")}
    for split, found in examples.items():
        assert set(found.labels) <= set(range(len(dataset.label_names)))
        assert len(found) == sizes.get(split, len(found))
        assert 0 < len(found) <= EXAMPLES


def test_a_multi_label_data_set_is_refused(mocked):
    with (
        mocked("goemotions", ["train"]),
        pytest.raises(UserError, match=r"goemotions: .*label\?.*label_column=.*comment_text"),
    ):
        open_dataset("goemotions", data_dir=None, download=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imdb", r"dataset=imdb is neither a file.*TensorFlow Datasets; names like it: .*imdb_"),
        ("ag_news", "names like it: .*ag_news_subset"),
        ("zzzzzz", "names like it: imdb_reviews, imdb_offline$"),
        ("glue/sst", "is no configuration; glue has .*sst2"),
        ("imdb_reviews:9.9.9", r"cannot be loaded at version 9\.9\.9, only: 1\.0\.0"),
        ("nowhere:data", "names like it"),
    ],
)
def test_an_unknown_name_is_a_user_error(tmp_path, name, message):
    with pytest.raises(UserError, match=message) as raised:
        open_dataset(name, data_dir=str(tmp_path), download=True)
    assert "\n" not in str(raised.value)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ModuleNotFoundError("No module named 'datasets'", name="datasets")

    monkeypatch.setattr(tfds, "builder", fail)
    with pytest.raises(UserError, match="pip install datasets"):
        open_dataset("huggingface:ag_news", data_dir=str(tmp_path), download=True)


def test_a_data_set_that_is_not_prepared_is_not_downloaded_against_the_users_will(tmp_path):
    with pytest.raises(RunError, match=r"glue is not in .*data_dir=FOLDER"):
        open_dataset("glue/sst2", data_dir=str(tmp_path), download=False)
