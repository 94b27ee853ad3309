"""Training texts without usable tokens are found before training."""

import csv
import dataclasses
import logging

import pytest

from pipeline.errors import UserError
from trainer.config import TrainConfig
from trainer.data import check_data, open_corpus
from trainer.preparation import prepare_run


@pytest.fixture
def config_of(tmp_path):
    """Writes each text with both labels to a file, and returns settings for it."""

    def config_of(texts, **settings):
        path = tmp_path / "texts.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label"))
            writer.writerows((text, label) for text in texts for label in ("neg", "pos"))
        small = {"encoder": "pooled_lstm", "units": 4, "batch_size": 8, "vocab_size": 500}
        return TrainConfig(dataset=str(path), cache_dir="", **{**small, **settings})

    return config_of


def check(config):
    check_data(open_corpus(config), config)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_texts_without_words_are_an_error_that_names_the_column(config_of):
    texts = [" \t" * n + "<br />" for n in range(40)]
    with pytest.raises(
        UserError,
        match=r"none of the .* has a token; .*text_column \(it is text now\)",
    ):
        check(config_of(texts))


@pytest.mark.slow
def test_texts_of_punctuation_need_punctuation_keep(config_of):
    texts = [":)" * n + " :(" * n for n in range(1, 30)]
    with pytest.raises(
        UserError, match=r"none of the .* has a token; .*or keep punctuation: punctuation=keep"
    ):
        check(config_of(texts))
    words = open_corpus(config_of(texts, punctuation="keep")).vocabulary()
    assert set(words) == {":", "(", ")"}


def test_empty_texts_are_counted(config_of, caplog):
    config = config_of(["", " ", *(f"a film n{n}" for n in range(40))])
    data = open_corpus(config)
    empty = int((data.words("train").lengths == 0).sum())
    assert empty
    check_data(data, config)
    (warning,) = [text for text in warnings(caplog) if "no token" in text]
    assert f"{empty} of " in warning
    assert "have no token" in warning


def make(config, folder):
    folder.mkdir()
    prepare_run(config, open_corpus(config), folder)


def test_texts_of_one_token_cause_a_warning(config_of, caplog, tmp_path):
    make(config_of([f"a{n}" for n in range(40)]), tmp_path / "run")
    (warning,) = [text for text in warnings(caplog) if "one token" in text]
    assert "(100%)" in warning
    assert "separated by spaces" in warning


@pytest.mark.slow
def test_longer_texts_cause_no_warning_unless_one_token_is_kept(config_of, caplog, tmp_path):
    config = config_of([f"a film n{n}" for n in range(40)])
    make(config, tmp_path / "run")
    assert not [text for text in warnings(caplog) if "one token" in text]
    make(dataclasses.replace(config, sequence_length=1), tmp_path / "other")
    (warning,) = [text for text in warnings(caplog) if "one token" in text]
    assert "--sequence_length=1" in warning
