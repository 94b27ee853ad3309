"""A model_dir from an untrusted source."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from pipeline.errors import RunError, UserError
from tests.helpers import copy_run, make_small_loop
from trainer import run as runs
from trainer.artifacts.trained_run import load

# Checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("list_file", [None, b"", b"\x00garbage", "elsewhere"])
def test_a_false_list_of_checkpoints_is_ignored(small_config, splits, tmp_path, trained, list_file):
    """It may be missing, damaged, or name files in another folder that would be deleted."""
    folder = copy_run(trained, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder / "checkpoints", elsewhere)
    for name in ("checkpoints", "best"):
        path = folder / name / "checkpoint"
        lines = [
            f'all_model_checkpoint_paths: "{elsewhere / file.stem}"'
            for file in sorted(elsewhere.glob("*.index"))
        ]
        times = ["all_model_checkpoint_timestamps: 1.0"] * len(lines)
        content = "\n".join([lines[0].removeprefix("all_"), *lines, *times]).encode()
        if list_file is None:
            path.unlink()
        else:
            path.write_bytes(content if list_file == "elsewhere" else list_file)
    before = sorted(path.name for path in elsewhere.iterdir())
    assert load(folder).best_epoch in (1, 2)
    loop = make_small_loop(dataclasses.replace(small_config, epochs=4), splits, folder)
    assert int(loop.state.epoch) == 2
    loop._checkpoints.save()
    loop._checkpoints.save_best()
    assert sorted(path.name for path in elsewhere.iterdir()) == before
    assert len(list(folder.glob("checkpoints/*.index"))) == 3


class Executed:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return (os.mkdir, (str(self._path),))


@pytest.mark.slow
def test_no_pickle_is_loaded(small_config, tmp_path, project_log):
    config = dataclasses.replace(
        small_config, cache_dir=str(tmp_path / "cache"), epochs=1, max_steps=2, units=4
    )
    runs.train(config, tmp_path / "a")
    for path in (tmp_path / "cache").rglob("*.npy"):
        np.save(path, np.array([Executed(tmp_path / "executed")]), allow_pickle=True)
    runs.train(config, tmp_path / "b")
    assert not (tmp_path / "executed").exists()
    assert "is damaged" in project_log.text
    results = [json.loads((tmp_path / n / "results.json").read_text()) for n in ("a", "b")]
    assert results[0] | {"train_seconds": 0} == results[1] | {"train_seconds": 0}


@pytest.mark.parametrize("words", [["good", "bad", "good"], ["good", "", "bad"], ["[UNK]", "good"]])
def test_an_invalid_vocabulary_is_a_run_error(tmp_path, trained, words):
    """It matches its config.json, but this program cannot have written it."""
    from pipeline.vocabulary import fingerprint

    folder = copy_run(trained, tmp_path)
    (folder / "vocabulary.txt").write_text("".join(f"{word}\n" for word in words))
    content = json.loads((folder / "config.json").read_text())
    content["vocabulary_sha256"] = fingerprint(words)
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"vocabulary\.txt is damaged: it has an empty line"):
        load(folder)


def test_evaluate_writes_nowhere_that_config_json_names(run, tmp_path, trained, cache_dir):
    folder = copy_run(trained, tmp_path)
    content = json.loads((folder / "config.json").read_text())
    content["settings"] |= {
        "cache_dir": str(tmp_path / "cache"),
        "data_dir": str(tmp_path / "data"),
    }
    (folder / "config.json").write_text(json.dumps(content))
    before = sorted(tmp_path.rglob("*"))
    done = run("evaluate", f"--model_dir={folder}", f"--cache_dir={cache_dir}")
    assert (done.returncode, done.stdout) == (2, b"")
    assert "may not be downloaded to it" in done.stderr.decode()
    assert sorted(tmp_path.rglob("*")) == before


def test_training_does_not_write_through_links(small_config, tmp_path, trained):
    folder = copy_run(trained, tmp_path)
    (tmp_path / "precious").write_text("as it was")
    for name in ("history.csv", "curves.png", "results.json", "config.json"):
        (folder / f"{name}.new").symlink_to(tmp_path / "precious")
    for name in ("history_next.json", "validation/projector_config.pbtxt"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(tmp_path / "precious")
    runs.train(dataclasses.replace(small_config, epochs=3), folder)
    assert (tmp_path / "precious").read_text() == "as it was"
    assert len((folder / "history.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("name", ["train", "validation", "checkpoints", "best"])
def test_folders_that_are_links_to_another_run_are_refused(small_config, tmp_path, trained, name):
    """Events after its last step would be dropped there, and checkpoints deleted."""
    theirs, ours = copy_run(trained, tmp_path / "theirs"), copy_run(trained, tmp_path / "ours")
    shutil.rmtree(ours / name)
    (ours / name).symlink_to(theirs / name)
    before = {path: path.read_bytes() for path in (theirs / name).iterdir()}
    longer = dataclasses.replace(small_config, epochs=3)
    with pytest.raises(UserError, match=f"{name} is a link"):
        runs.train(longer, ours)
    assert {path: path.read_bytes() for path in (theirs / name).iterdir()} == before
