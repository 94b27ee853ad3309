"""Commands change no files that they did not write."""

import hashlib
import os
import shutil
import time

import pytest

from tests.small import SMALL


def bystanders():
    """Returns paths of a user's files that resemble files of the program."""
    places = ("", ".git/", ".ssh/", "my.project/", "old.d/", "checkpoints.old/", "data/train/")
    files = (
        "notes.txt",
        "a.new",
        "a.tmp",
        ".hidden",
        "predictions.tsv.new",
        ".predictions.tsv.tmp",
    )
    files += ("ckpt-1.index", "ckpt-2_temp", "checkpoint", "entry.json", "values.bin", "new")
    paths = [place + file for place in places for file in files]
    paths += [f"{folder}/mine" for folder in ("export.new", ".export.new", "export.old", "run.new")]
    paths += ["texts-0123456789abcdef0123/values.bin", "tokens-0.x/labels.npy", "unfinished/a.b/c"]
    paths += [".text-sentiment-0123.unfinished/new", "text-sentiment-cache/mine.d/file", "lock"]
    paths += ["text-sentiment-cache/unfinished/texts-0.abc/values.bin", "train/events.out.tfevents"]
    return paths


def fill(folder):
    """Writes these files, alternately old and new."""
    for number, name in enumerate(bystanders()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"mine {number}")
        if number % 2:
            days = time.time() - 400 * 86_400
            os.utime(path, (days, days))
    (folder / "link").symlink_to("notes.txt")
    (folder / "dangling").symlink_to("nowhere")
    for path in folder.rglob("*"):
        if path.is_dir() and path.name != "text-sentiment-cache":
            os.utime(path, (time.time() - 400 * 86_400,) * 2)


def state_of(folder):
    """Returns the mode, modification time and SHA-256 of each path in a folder."""
    found = {}
    for path in folder.rglob("*"):
        about = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        time_of_change = 0 if path.is_dir() else about.st_mtime_ns  # it changes with new files
        found[path.relative_to(folder)] = (about.st_mode, time_of_change, content)
    return found


@pytest.mark.slow
def test_commands_change_no_other_files(call, data_dir, tmp_path, monkeypatch, capsys):
    """All commands run in one folder with a user's files, which is also the cache_dir."""
    fill(tmp_path)
    before = state_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    settings = {**SMALL, "data_dir": data_dir, "cache_dir": ".", "cache_gb": 0, "epochs": 1}
    settings |= {"encoder": "pooled_lstm", "units": 4}
    train = [f"--{name}={value}" for name, value in settings.items()]
    here = (f"--data_dir={data_dir}", "--cache_dir=.", "--cache_gb=0")
    commands = [
        ("train", "--model_dir=run", *train),
        ("train", "--model_dir=run", *train, "--epochs=2"),
        ("evaluate", "--model_dir=run", *here),
        ("evaluate", "--model_dir=run", *here, "--report_dir=."),
        ("predict", "--model_dir=run", "--output=predictions.tsv", "A good film."),
        ("export", "--model_dir=run", "--export_dir=export"),
        ("export", "--model_dir=run", "--export_dir=export"),
    ]
    for command in commands:
        assert call(*command) == 0, capsys.readouterr().err
        after = state_of(tmp_path)
        assert {path: after.get(path) for path in before} == before, command
    made = {path.parts[0] for path in set(state_of(tmp_path)) - set(before)}
    assert made == {
        "run",
        "text-sentiment-cache",
        "predictions.tsv",
        "export",
        "errors.csv",
        "curves.png",
    }


@pytest.mark.parametrize(
    "command", [("train", "--model_dir=."), ("export", "--model_dir=run", "--export_dir=.")]
)
def test_a_folder_with_other_files_is_refused(
    call, trained, flags, tmp_path, monkeypatch, capsys, command
):
    fill(tmp_path)
    shutil.copytree(trained, tmp_path / "run")
    before = state_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert call(*command, *(flags if command[0] == "train" else ())) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert state_of(tmp_path) == before


@pytest.mark.parametrize(
    "name",
    ["history.csv", "results.json", "curves.png", "best/mine", "checkpoints/mine"]
    + [f"{split}/events.out.tfevents.1.host" for split in ("train", "validation")]
    + ["validation/words.tsv", "vocabulary.txt"],
)
def test_a_new_run_replaces_no_file(call, flags, tmp_path, capsys, name):
    """Such as events that another program wrote to train/ and validation/."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = state_of(tmp_path)
    assert call("train", f"--model_dir={tmp_path}", *flags) == 1
    assert f"{name.removesuffix('/mine')}" in capsys.readouterr().err
    assert state_of(tmp_path) == before


@pytest.mark.slow
def test_a_run_killed_after_writing_its_vocabulary_resumes(call, trained, flags, tmp_path):
    """The process was killed before it wrote config.json."""
    shutil.copy(trained / "vocabulary.txt", tmp_path)
    assert call("train", f"--model_dir={tmp_path}", *flags, "--max_steps=1") == 0


def test_export_does_not_write_through_a_link(call, trained, tmp_path, capsys):
    model_dir = shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    (model_dir / "export").symlink_to(tmp_path / "elsewhere")
    assert call("export", f"--model_dir={model_dir}") == 1
    assert "is a link" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())
