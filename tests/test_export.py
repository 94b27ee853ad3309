"""What scripts.export makes, beyond the agreement that test_end_to_end.py holds it to."""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.classifier import TextClassifier
from pipeline.errors import UserError
from tests.test_end_to_end import trained_with_ngrams
from trainer.artifacts import export as exports
from trainer.artifacts.export import export
from trainer.artifacts.trained_run import load

__all__ = ["trained_with_ngrams"]  # a fixture

TEXTS = [b"A good film.", b"", b"The worst, the very worst of all films!"]


@pytest.fixture(scope="module")
def exported(trained, run, tmp_path_factory):
    """The folder of a SavedModel, in place of an earlier export."""
    folder = tmp_path_factory.mktemp("exports") / "here"
    for export_format in ("keras", "saved_model"):
        done = run(
            *("export", f"--model_dir={trained[0]}", f"--export_dir={folder}"),
            f"--export_format={export_format}",
        )
        assert (done.returncode, done.stderr) == (0, b"")
    assert {path.name for path in folder.parent.iterdir()} == {"here"}
    assert not (folder / "model.keras").exists()
    return folder


def saved_model_cli(*arguments):
    program = Path(sys.executable).with_name("saved_model_cli")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, check=True)
    return done.stdout.decode()


def test_tensorflows_own_command_shows_and_runs_it(exported, trained):
    where = ("--dir", exported, "--tag_set", "serve", "--signature_def", "serving_default")
    shown = saved_model_cli("show", *where)
    assert re.search(r"inputs\['texts'\].*\n\s*dtype: DT_STRING\n\s*shape: \(-1\)", shown)
    assert re.search(r"outputs\['label'\].*\n\s*dtype: DT_STRING\n\s*shape: \(-1\)", shown)
    assert re.search(r"outputs\['probability'\].*\n\s*dtype: DT_FLOAT\n\s*shape: \(-1\)", shown)
    answered = saved_model_cli("run", *where, "--input_exprs", f"texts={TEXTS}")
    (found,) = re.findall(r"key probability:\n\[(.*)\]", answered)
    expected = load(trained[0]).predict(TEXTS)
    np.testing.assert_allclose([float(number) for number in found.split()], expected, atol=1e-5)


def test_the_card_tells_the_results_and_the_settings(exported, trained):
    card = (exported / "model_card.md").read_text()
    results = json.loads((trained[0] / "results.json").read_text())
    for name in ("accuracy", "auc", "f1", "calibration_error"):
        assert f"| {name} | {results[name]:.4f} |" in card
    for part in results["by_length"]:
        assert f"| {part['tokens']} | {part['examples']} | {part['accuracy']:.4f} |" in card
    assert "| learning_rate | 0.005 |" in card
    assert "| dropout |" not in card  # it is the default one
    assert "the last 40 tokens" in card


@pytest.mark.parametrize("model", ["trained", "trained_with_ngrams"])
def test_a_keras_model_answers_token_ids_alike(model, request, tmp_path):
    model_dir, _ = request.getfixturevalue(model)
    export(model_dir, tmp_path / "saved", "keras")
    loaded = keras.saving.load_model(tmp_path / "saved" / "model.keras")
    run = load(model_dir, branches=1)
    assert type(loaded) is TextClassifier
    words = (tmp_path / "saved" / "vocabulary.txt").read_text().splitlines()
    assert words == run.vectorizer.words
    token_ids = run.vectorizer(tf.constant(TEXTS)).to_tensor()
    np.testing.assert_array_equal(loaded(token_ids), run.evaluator.model(token_ids))


@pytest.fixture
def no_work(monkeypatch):
    """Has a test fail where the model is loaded."""

    monkeypatch.setattr("trainer.artifacts.export.load", None)  # it cannot be called


@pytest.mark.usefixtures("no_work")
def test_what_is_no_export_is_not_replaced(trained, tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match=r"contains something other than an export .* name another"):
        export(trained[0], tmp_path, "saved_model")
    with pytest.raises(UserError, match="is a file; name a folder"):
        export(trained[0], tmp_path / "diary.txt", "saved_model")
    assert (tmp_path / "diary.txt").read_text() == "mine"


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", ["notes.txt", "variables/notes.txt", ".git/config", "old/x.pb"])
def test_a_file_of_the_users_in_an_export_is_not_deleted(trained, tmp_path, name):
    for path in ("model_card.md", "saved_model.pb", "variables/variables.index", name):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("mine")
    with pytest.raises(
        UserError,
        match=f"something other than an export .'{Path(name).parts[0]}.*name another folder",
    ):
        export(trained[0], tmp_path, "saved_model")
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", [".", "..", "/", "here/.."])
def test_the_current_folder_is_not_replaced(trained, tmp_path, monkeypatch, name):
    (tmp_path / "empty" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError, match=f"--export_dir={name} .*the current folder.*another"):
        export(trained[0], Path(name), "saved_model")


@pytest.mark.usefixtures("no_work")
def test_a_link_that_leads_nowhere_is_refused(trained, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(UserError, match="is a broken link; name a folder"):
        export(trained[0], tmp_path / "link", "saved_model")


@pytest.mark.usefixtures("no_work")
def test_a_folder_that_cannot_be_written_is_found_before_the_work(trained):
    with pytest.raises(OSError, match="proc") as raised:
        export(trained[0], Path("/proc/none/export"), "saved_model")
    assert raised.value.filename == "/proc/none/export"


def test_a_link_to_a_folder_is_followed(trained, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    for _ in ("new", "replaced"):
        export(trained[0], tmp_path / "link", "keras")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder" / "model.keras").is_file()
        assert {path.name for path in tmp_path.iterdir()} == {"folder", "link"}


def test_two_exports_at_once_both_end_and_harm_nothing(trained, tmp_path, monkeypatch):
    """The second begins and ends while the first one writes."""
    beside = [tmp_path / name for name in ("here.new", ".here.new", "here.tmp")]
    for folder in beside:
        folder.mkdir()
        (folder / "mine").write_text("mine")
    write, second = exports._write_keras, []

    def write_both(run, folder):
        write(run, folder)
        if not second:
            second.append(folder)
            export(trained[0], tmp_path / "here", "keras")

    monkeypatch.setattr(exports, "_write_keras", write_both)
    export(trained[0], tmp_path / "here", "keras")
    assert second
    assert set(tmp_path.iterdir()) == {tmp_path / "here", *beside}
    files = {path.name for path in (tmp_path / "here").iterdir()}
    assert files == {"model.keras", "vocabulary.txt", "model_card.md"}
    assert {(folder / "mine").read_text() for folder in beside} == {"mine"}
    (tmp_path / "by_hand").mkdir()
    assert (tmp_path / "here").stat().st_mode == (tmp_path / "by_hand").stat().st_mode
