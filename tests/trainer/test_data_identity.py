"""The identity of data is their contents, and a run records it."""

import dataclasses
import os
import shutil

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.file_dataset import rows
from tests.helpers import FILE_ROWS, config_for_file, write_csv
from trainer.artifacts.trained_run import load
from trainer.data import open_corpus
from trainer.run import train
from trainer.runtime.signals import StopSignals


@pytest.fixture
def parsed(monkeypatch):
    """The files that were parsed, in order."""
    paths, read_records = [], rows.read_records

    def counting(path, *arguments):
        paths.append(path.name)
        return read_records(path, *arguments)

    monkeypatch.setattr(rows, "read_records", counting)
    return paths


def read_all(config):
    data = open_corpus(config)
    for split in ("train", "validation", "test"):
        places = np.arange(data.dataset.size(split))
        assert len(data.original_texts(split, places)) == len(places)
        assert sum(len(texts) for texts, _ in data.dataset.read(split)) == len(places)
    return data


def test_each_file_is_parsed_once_and_then_cached(tmp_path, parsed):
    write_csv(tmp_path / "data" / "train.csv")
    write_csv(tmp_path / "data" / "test.csv", FILE_ROWS[:20])
    config = config_for_file(tmp_path / "data", tmp_path / "cache")
    first = read_all(config)
    assert sorted(parsed) == ["test.csv", "train.csv"]
    again = read_all(config)
    assert len(parsed) == 2
    assert again.dataset.identity == first.dataset.identity


def test_the_identity_of_data_depends_only_on_contents(tmp_path, parsed):
    path = write_csv(tmp_path / "one" / "a.csv")
    config = config_for_file(path, tmp_path / "cache")
    before = read_all(config).dataset
    os.utime(path, (1, 1))
    copy = tmp_path / "two" / "other name.csv"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    for same in (path, copy):
        assert read_all(dataclasses.replace(config, dataset=str(same))).dataset.identity == (
            before.identity
        )
    assert parsed == ["a.csv"]
    write_csv(path, [("an edited text", "neg"), *FILE_ROWS[1:]])
    assert read_all(config).dataset.identity != before.identity


@pytest.mark.parametrize(
    "edit",
    [
        lambda examples: [("another text", "neg"), *examples[1:]],
        lambda examples: [(examples[0][0], "pos"), *examples[1:]],
        lambda examples: examples[::-1],
        lambda examples: examples[:-1],
    ],
)
def test_fingerprints_depend_on_texts_and_labels_in_order(tmp_path, edit):
    config = config_for_file(write_csv(tmp_path / "a.csv"), tmp_path / "cache")
    before = open_corpus(config).fingerprints(["train"])
    write_csv(tmp_path / "a.csv", edit(FILE_ROWS))
    assert open_corpus(config).fingerprints(["train"]) != before
    write_csv(
        tmp_path / "a.csv",
        [(text, label, "x") for text, label in FILE_ROWS],
        ("text", "label", "id"),
    )
    assert open_corpus(config).fingerprints(["train"]) == before


def test_a_named_data_set_has_a_fingerprint_per_stored_split(small_config):
    data = open_corpus(small_config)
    assert set(data.fingerprints(["train", "validation"])) == {"train"}
    swapped = open_corpus(small_config, label_names=("pos", "neg"))
    assert swapped.fingerprints(["train"]) != data.fingerprints(["train"])
    labels = [np.concatenate([b for _, b in d.dataset.read("train")]) for d in (data, swapped)]
    assert (labels[0] == 1 - labels[1]).all()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A file, its content, and the settings and the folder of a run on it."""
    folder = tmp_path_factory.mktemp("identity")
    config = config_for_file(write_csv(folder / "a.csv"), folder / "cache")
    with StopSignals():
        train(config, folder / "run")
    return config, folder / "run"


@pytest.fixture
def edited(trained):
    """Writes other examples into the file of the run, for one test."""
    config, model_dir = trained

    def edited(examples):
        write_csv(model_dir.parent / "a.csv", examples)
        return config, model_dir

    yield edited
    write_csv(model_dir.parent / "a.csv")


OTHER = {"neg": "pos", "pos": "neg"}


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (
            [(t, {"neg": "terrible"}.get(n, n)) for t, n in FILE_ROWS],
            r"labels 'pos', 'terrible', but",
        ),
        pytest.param(
            [(t, OTHER[n]) for t, n in FILE_ROWS],
            "texts, labels or splits in ",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            [(t, n) for t, n in reversed(FILE_ROWS)],
            "texts, labels or splits in ",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_edited_data_are_refused_on_resume_and_by_evaluate(edited, examples, message):
    config, model_dir = edited(examples)
    with pytest.raises(UserError, match=message), StopSignals():
        train(dataclasses.replace(config, epochs=2), model_dir)
    run = load(model_dir)
    with pytest.raises(UserError, match=message):
        run.evaluate_split(open_corpus(config, label_names=run.label_names), "test")


@pytest.mark.slow
def test_another_number_of_examples_is_refused(edited):
    config, model_dir = edited([*FILE_ROWS, *[(f"a new film {n}", "pos") for n in range(40)]])
    message = r"trained on \{'train': \d+.*there are"
    with pytest.raises(UserError, match=message), StopSignals():
        train(dataclasses.replace(config, epochs=2), model_dir)


def test_labels_keep_the_order_of_the_run(trained):
    config, model_dir = trained
    run = load(model_dir)
    other = dataclasses.replace(run, label_names=("pos", "neg"))
    assert open_corpus(config, label_names=other.label_names).dataset.label_names == ("pos", "neg")
    with pytest.raises(UserError, match=r"label_names=run\.label_names"):
        other.evaluate_split(open_corpus(config), "test")


def test_a_run_with_a_label_map_is_resumed_and_evaluated(tmp_path):
    stars = [
        (text, {"neg": "12", "pos": "45"}[n][i // 2 % 2]) for i, (text, n) in enumerate(FILE_ROWS)
    ]
    path = write_csv(tmp_path / "a.csv", stars)
    label_map = "1:bad,2:bad,4:good,5:good"
    config = config_for_file(path, tmp_path / "cache", label_map=label_map)
    for epochs in (1, 2):
        with StopSignals():
            train(dataclasses.replace(config, epochs=epochs), tmp_path / "run")
    run = load(tmp_path / "run")
    assert run.label_names == ("bad", "good")
    corpus = open_corpus(run.config, label_names=run.label_names)
    assert run.evaluate_split(corpus, "test")["examples"] == corpus.dataset.size("test")
    swapped = dataclasses.replace(config, label_map="1:good,2:good,4:bad,5:bad", epochs=3)
    with pytest.raises(UserError, match="label_map"), StopSignals():
        train(swapped, tmp_path / "run")
    with pytest.raises(UserError, match="was trained on other data"):
        run.evaluate_split(open_corpus(swapped, label_names=run.label_names), "test")
