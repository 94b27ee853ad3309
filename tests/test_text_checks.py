"""Training texts that a model cannot learn from are named before it is trained."""

import csv
import dataclasses
import logging

import pytest

from pipeline.errors import UserError
from trainer.config import TrainConfig
from trainer.data import open_corpus
from trainer.preparation import prepare_run


@pytest.fixture
def config_of(tmp_path):
    """Writes texts, each of which stands there with both labels, and answers settings for them."""

    def config_of(texts, **settings):
        path = tmp_path / "texts.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label"))
            writer.writerows((text, label) for text in texts for label in ("neg", "pos"))
        small = {"encoder": "none", "ngrams": 2, "epochs": 1, "batch_size": 8, "vocab_size": 500}
        return TrainConfig(dataset=str(path), cache_dir="", **{**small, **settings})

    return config_of


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_texts_without_words_are_named_with_the_column(config_of):
    texts = [" \t" * n + "<br />" for n in range(40)]
    with pytest.raises(UserError, match=r"no text in the train split has a token .*--text_column \(it is text now\)"):
        open_corpus(config_of(texts)).vocabulary()


def test_texts_of_punctuation_are_trained_on_where_it_is_kept(config_of):
    texts = [":)" * n + " :(" * n for n in range(1, 30)]
    with pytest.raises(UserError, match=r"no text in the train split has a token .*add --punctuation=keep"):
        open_corpus(config_of(texts)).vocabulary()
    words = open_corpus(config_of(texts, punctuation="keep")).vocabulary()
    assert set(words) == {":", "(", ")"}


def test_texts_that_no_setting_gives_tokens_do_not_ask_for_punctuation(config_of):
    with pytest.raises(UserError, match="--text_column"):
        open_corpus(config_of(["^_^", "= =", "~"] * 20)).vocabulary()


def test_empty_texts_are_counted(config_of, caplog):
    config = config_of(["", " ", *(f"a film n{n}" for n in range(40))])
    data = open_corpus(config)
    texts = data._texts("train")
    empty = sum(not text for text in data._cut("train", texts).texts())
    assert empty
    data.vocabulary()
    (warning,) = warnings(caplog)
    assert f"{empty} of " in warning
    assert "have no token" in warning


def make(config, folder):
    folder.mkdir()
    prepare_run(config, open_corpus(config), folder)


def test_texts_of_one_token_are_warned_about(config_of, caplog, tmp_path):
    make(config_of([f"a{n}" for n in range(40)]), tmp_path / "run")
    (warning,) = [text for text in warnings(caplog) if "one token" in text]
    assert "(100%)" in warning
    assert "separated by spaces" in warning


def test_texts_of_more_tokens_are_not_unless_one_is_kept(config_of, caplog, tmp_path):
    config = config_of([f"a film n{n}" for n in range(40)])
    make(config, tmp_path / "run")
    assert not [text for text in warnings(caplog) if "one token" in text]
    make(dataclasses.replace(config, sequence_length=1), tmp_path / "other")
    (warning,) = [text for text in warnings(caplog) if "one token" in text]
    assert "--sequence_length=1" in warning
