"""Runs with missing or damaged files, and runs from another device."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from pipeline.errors import RunError, UserError
from tests.helpers import copy_run, make_small_loop
from trainer import run as runs
from trainer.artifacts.export import export
from trainer.artifacts.trained_run import load


def test_unfinished_checkpoints_of_a_killed_process_are_removed(
    small_config, splits, tmp_path, trained
):
    folder = copy_run(trained, tmp_path)
    whole = {path.name for path in folder.glob("checkpoints/ckpt-*")}
    for name in ("ckpt-90.data-00000-of-00001", "ckpt-3.index.tempstate12", "ckpt-91_temp/part-0"):
        path = folder / "checkpoints" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    lists = [folder / "checkpoints" / f"checkpoint.tmp{name}" for name in ("0" * 32, "mine")]
    for path in lists:
        path.write_bytes(b"half")
    make_small_loop(small_config, splits, folder)
    assert [path.exists() for path in lists] == [False, True]
    assert {path.name for path in folder.glob("checkpoints/ckpt-*")} == whole


def test_a_run_without_its_checkpoints_does_not_start_again(small_config, tmp_path, trained):
    folder = copy_run(trained, tmp_path)
    shutil.rmtree(folder / "checkpoints")
    before = (folder / "results.json").read_bytes()
    for lost in ("history.csv", "results.json", "best/ckpt-"):
        with pytest.raises(RunError, match=f"{lost}.* but no checkpoints to resume from"):
            runs.train(dataclasses.replace(small_config, epochs=3), folder)
        if lost == "history.csv":
            assert (folder / "results.json").read_bytes() == before
            (folder / lost).unlink()
        elif lost == "results.json":
            (folder / lost).unlink()


def test_a_run_without_its_best_model_is_an_error(small_config, tmp_path, trained):
    """Before training, which might find no better model, and in the other commands."""
    folder = copy_run(trained, tmp_path)
    shutil.rmtree(folder / "best")
    before = (folder / "results.json").read_bytes()
    longer = dataclasses.replace(small_config, epochs=3)
    for use in (lambda: runs.train(longer, folder), lambda: load(folder)):
        with pytest.raises(RunError, match=r"the best model is missing from .*best; restore it"):
            use()
    assert (folder / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format_version", "1"),
        ("label_names", ["pos"]),
        ("label_names", "ab"),
        ("label_names", [0, 1]),
        ("label_names", [["neg"], "pos"]),
        ("precision", "foo"),
        ("precision", 3),
        ("vocabulary_sha256", None),
        ("data_sha256", ["a"]),
        ("data_sha256", {"train": 1}),
        ("reviews", []),
        ("reviews", {"train": "many"}),
        ("branches", 999_999),
        ("branches", True),
    ],
)
def test_an_invalid_value_in_config_json_is_named(tmp_path, trained, name, value):
    folder = copy_run(trained, tmp_path)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {name: value}))
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        load(folder)
    for unimportant in ("device", "commit", "versions"):
        content.pop(unimportant)
    (folder / "config.json").write_text(json.dumps(content))
    load(folder)


def test_the_previous_best_model_is_used_if_the_best_is_damaged(tmp_path, trained, project_log):
    """The previous model is a copy here, so that its predictions are known."""
    folder = copy_run(trained, tmp_path)
    newest = max(folder.glob("best/*.index"), key=lambda path: int(path.stem[5:])).stem
    for path in folder.glob("best/ckpt-*"):
        if path.name.startswith(f"{newest}."):
            shutil.copy(path, path.with_name(path.name.replace(newest, "ckpt-1")))
        else:
            path.unlink()
    paths = sorted(folder.glob("best/*.data-*"))
    os.truncate(folder / "best" / f"{newest}.data-00000-of-00001", 1000)
    assert load(folder).best_epoch == load(trained).best_epoch
    assert f"best/{newest} cannot be read" in project_log.text
    for path in paths:
        os.truncate(path, 1000)
    with pytest.raises(RunError, match="none of the"):
        load(folder)


def test_the_vocabulary_of_another_run_is_refused(small_config, tmp_path, trained):
    """By train, and by load, which evaluate, predict and export call first."""
    folder = copy_run(trained, tmp_path)
    words = (folder / "vocabulary.txt").read_text().splitlines()
    (folder / "vocabulary.txt").write_text("\n".join([*words[1:], words[0]]) + "\n")
    longer = dataclasses.replace(small_config, epochs=3)
    for use in (
        lambda: runs.train(longer, folder),
        lambda: load(folder),
        lambda: export(folder, tmp_path / "saved"),
    ):
        with pytest.raises(UserError, match=r"is not the vocabulary of this run: its SHA-256"):
            use()


def test_a_damaged_history_is_an_error_and_a_short_one_a_warning(
    small_config, splits, tmp_path, trained, project_log
):
    folder = copy_run(trained, tmp_path)
    longer = dataclasses.replace(small_config, epochs=3)
    (folder / "history.csv").write_bytes(b"epoch,step\n\x00\xff\n")
    with pytest.raises(RunError, match=r"history\.csv is damaged .*restore it, or delete"):
        make_small_loop(longer, splits, folder).fit()
    (folder / "history.csv").unlink()
    # The checkpoints are complete, so the run resumes.
    make_small_loop(longer, splits, folder).fit()
    assert "has rows for only 0 of 2 epochs" in project_log.text
    assert (folder / "history.csv").read_text().splitlines()[1].startswith("3,")


# Machines


@pytest.mark.slow
def test_a_run_trained_on_a_gpu_resumes_on_a_cpu_with_a_warning(
    small_config, tmp_path, trained, project_log
):
    """config.json says mixed_float16, as `auto` chooses on a GPU; the weights are float32."""
    folder = copy_run(trained, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["precision"] = "mixed_float16"
    (folder / "config.json").write_text(json.dumps(config))
    shutil.rmtree(folder / "checkpoints")
    (folder / "history.csv").unlink()
    used = load(folder)
    assert "was trained with precision mixed_float16" in project_log.text
    on_cpu = load(trained)
    texts = [b"a wonderful film", b"the worst film"]
    np.testing.assert_allclose(used.predict(texts), on_cpu.predict(texts), atol=0.01)
    shutil.rmtree(folder / "best")
    (folder / "results.json").unlink()
    project_log.clear()
    for epochs in (1, 2):  # started again, then resumed
        config = dataclasses.replace(small_config, epochs=epochs)
        results = runs.train(config, folder)
        assert "was trained with precision mixed_float16 and keeps it" in project_log.text
        assert results["epochs"] == epochs
