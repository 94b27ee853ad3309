"""Published files contain no local paths."""

import dataclasses
import os
import zipfile
from pathlib import Path

from tests.small import ROOT
from trainer.artifacts.model_card import model_card
from trainer.artifacts.run_record import RunRecord

# The published files


def contents(folder):
    """All bytes of the files of a folder, unzipped."""
    for path in folder.rglob("*"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                yield from ((path, file.read(name)) for name in file.namelist())
        elif path.is_file():
            yield path, path.read_bytes()


def test_an_export_contains_no_local_path(trained, exported):
    config = RunRecord.read(trained).config
    folders = (ROOT, Path.home(), config.data_dir, config.cache_dir, trained)
    for path, content in contents(exported):
        for folder in (*folders, exported.parent):
            assert os.fsencode(folder) not in content, path


def test_a_model_card_contains_no_local_path(trained, small_config):
    """Every setting that can be a path is one here."""
    record = RunRecord.read(trained)
    paths = {
        field.name: f"/home/me/secret/{field.name}"
        for field in dataclasses.fields(small_config)
        if type(field.default) is str and not field.metadata["choices"]
    }
    no_paths = ("encoder", "profile_steps", "encoding", "delimiter", "label_map", "class_weights")
    for name in no_paths:
        del paths[name]
    pretrained = {"pretrained": paths.pop("pretrained"), "vocab_size": 10_000, "embedding_dim": 128}
    for settings in ({}, pretrained):
        config = dataclasses.replace(small_config, ngrams=2, **paths, **settings)
        record = dataclasses.replace(record, config=config)
        card = model_card(trained, record, best_epoch=1, value=0.5, tokens=41)
        assert "secret" not in card
    assert "The data set is `dataset`. Numbers of examples:" in card
    assert "| teacher | teacher |" in card
    fitted = dataclasses.replace(small_config, ngrams=2, encoder="none")
    record = dataclasses.replace(record, config=fitted)
    card = model_card(trained, record, best_epoch=1, value=0.5, tokens=41)
    assert "knows the 41 most frequent tokens" in card
    assert "The cross-fitted loss on the train split is 0.5000." in card
    assert "cache_dir" not in card
