"""trainer.run.train."""

import dataclasses
import json
import shutil

import pytest

from pipeline.errors import UserError
from trainer import run as runs
from trainer.runtime.signals import StopSignals


def test_train_returns_results_and_again_without_training(small_config, tmp_path):
    config = dataclasses.replace(small_config, encoder="pooled_lstm", epochs=1)
    with StopSignals():
        results = runs.train(config, tmp_path / "run")
        again = runs.train(config, tmp_path / "run")
    path = tmp_path / "run" / "results.json"
    assert json.loads(path.read_text()) == results == again


def test_other_data_of_the_same_name_are_refused(small_config, tmp_path, trained):
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    content["reviews"]["train"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="other data named imdb_offline"):
        runs.train(small_config, tmp_path / "run")


def test_lost_results_are_computed_again(small_config, tmp_path, trained):
    """As after an interruption while the test split is read."""
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    with StopSignals():
        runs.train(small_config, tmp_path / "run")
    for name in ("results.json", "history.csv"):
        assert (tmp_path / "run" / name).read_text() == (trained / name).read_text()
    for path in trained.glob("*/*tfevents*"):
        copy = tmp_path / "run" / path.relative_to(trained)
        assert copy.read_bytes() == path.read_bytes()
