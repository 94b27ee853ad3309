"""The SavedModel, its model card, and the folder that it replaces."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from trainer.artifacts import export as exports
from trainer.artifacts.export import export
from trainer.artifacts.trained_run import load

TEXTS = [b"A good film.", b"", b"The worst, the very worst of all films!"]


def saved_model_cli(*arguments):
    program = Path(sys.executable).with_name("saved_model_cli")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, check=True)
    return done.stdout.decode()


@pytest.mark.slow
def test_saved_model_cli_shows_and_runs_the_export(exported, trained):
    where = ("--dir", exported, "--tag_set", "serve", "--signature_def", "serving_default")
    shown = saved_model_cli("show", *where)
    assert re.search(r"inputs\['texts'\].*\n\s*dtype: DT_STRING\n\s*shape: \(-1\)", shown)
    assert re.search(r"outputs\['label'\].*\n\s*dtype: DT_STRING\n\s*shape: \(-1\)", shown)
    assert re.search(r"outputs\['probability'\].*\n\s*dtype: DT_FLOAT\n\s*shape: \(-1\)", shown)
    output = saved_model_cli("run", *where, "--input_exprs", f"texts={TEXTS}")
    (found,) = re.findall(r"key probability:\n\[(.*)\]", output)
    expected = load(trained).predict(TEXTS)[:, 1]
    np.testing.assert_allclose([float(number) for number in found.split()], expected, atol=1e-5)


def test_the_vocabulary_of_the_export_is_one_table_that_does_not_change(exported):
    graph = (exported / "saved_model.pb").read_bytes()
    assert b"HashTableV2" in graph
    assert b"MutableHashTable" not in graph


def test_the_model_card_has_results_and_settings(exported, trained):
    card = (exported / "model_card.md").read_text()
    results = json.loads((trained / "results.json").read_text())
    for name in ("accuracy", "auc", "f1", "calibration_error"):
        assert f"| {name} | {results[name]:.4f} |" in card
    for part in results["by_length"]:
        assert f"| {part['tokens']} | {part['examples']} | {part['accuracy']:.4f} |" in card
    assert "| learning_rate | 0.005 |" in card
    assert "| dropout |" not in card  # it is the default one
    assert "the last 40 tokens" in card


@pytest.fixture
def no_work(monkeypatch):
    """Makes a test fail if the model is loaded."""

    monkeypatch.setattr("trainer.artifacts.export.load", None)  # it cannot be called


@pytest.mark.usefixtures("no_work")
def test_a_folder_that_is_not_an_export_is_not_replaced(trained, tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match=r"contains something other than an export .* name another"):
        export(trained, tmp_path)
    with pytest.raises(UserError, match="is a file; name a folder"):
        export(trained, tmp_path / "diary.txt")
    assert (tmp_path / "diary.txt").read_text() == "mine"


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", ["notes.txt", "variables/notes.txt", ".git/config", "old/x.pb"])
def test_an_export_with_other_files_is_not_replaced(trained, tmp_path, name):
    for path in ("model_card.md", "saved_model.pb", "variables/variables.index", name):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("mine")
    with pytest.raises(
        UserError,
        match=f"something other than an export .'{Path(name).parts[0]}.*name another folder",
    ):
        export(trained, tmp_path)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", [".", "..", "/", "here/.."])
def test_the_current_folder_is_not_replaced(trained, tmp_path, monkeypatch, name):
    (tmp_path / "empty" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError, match=f"export_dir={name} .*the current folder.*another"):
        export(trained, Path(name))


@pytest.mark.usefixtures("no_work")
def test_a_dangling_link_is_refused(trained, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(UserError, match="is a broken link; name a folder"):
        export(trained, tmp_path / "link")


@pytest.mark.usefixtures("no_work")
def test_a_folder_without_write_permission_is_found_before_exporting(trained):
    with pytest.raises(OSError, match="proc") as raised:
        export(trained, Path("/proc/none/export"))
    assert raised.value.filename == "/proc/none/export"


@pytest.mark.slow
def test_a_link_to_a_folder_is_followed(trained, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    for _ in ("new", "replaced"):
        export(trained, tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder" / "saved_model.pb").is_file()
        assert {path.name for path in tmp_path.iterdir()} == {"folder", "link"}


@pytest.mark.slow
def test_two_exports_at_once_both_succeed(trained, tmp_path, monkeypatch):
    """The second begins and ends while the first one writes."""
    beside = [tmp_path / name for name in ("here.new", ".here.new", "here.tmp")]
    for folder in beside:
        folder.mkdir()
        (folder / "mine").write_text("mine")
    write, second = exports._write_saved_model, []

    def write_both(run, folder):
        write(run, folder)
        if not second:
            second.append(folder)
            export(trained, tmp_path / "here")

    monkeypatch.setattr(exports, "_write_saved_model", write_both)
    export(trained, tmp_path / "here")
    assert second
    assert set(tmp_path.iterdir()) == {tmp_path / "here", *beside}
    files = {path.name for path in (tmp_path / "here").iterdir()}
    assert {"saved_model.pb", "variables", "model_card.md"} <= files
    assert {(folder / "mine").read_text() for folder in beside} == {"mine"}
    (tmp_path / "by_hand").mkdir()
    assert (tmp_path / "here").stat().st_mode == (tmp_path / "by_hand").stat().st_mode
