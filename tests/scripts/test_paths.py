"""Paths with spaces, from the home folder, from other folders, and paths that cannot be used."""

import pytest

from tests.helpers import write_csv


def test_commands_work_from_any_folder_with_paths_from_home(
    trained, run, tmp_path, data_dir, monkeypatch
):
    """The folder has a space in its name, and the path begins with ~."""
    home, elsewhere = trained.parent, tmp_path / "some where"
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(elsewhere)
    folder = f"--model_dir=~/{trained.name}"
    done = run("predict", folder, "fine")
    assert (done.returncode, done.stderr) == (0, b"")
    settings = ["--split=validation", "--report_dir=a report", f"--data_dir={data_dir}"]
    done = run("evaluate", folder, *settings)
    assert done.returncode == 0, done.stderr.decode()
    assert (elsewhere / "a report" / "errors.csv").is_file()


def test_a_name_that_begins_with_a_tilde_is_a_file(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "~$a.csv", header=("review", "label"))
    done = run("train", "--model_dir=run", "--dataset=~$a.csv")
    assert done.returncode == 1
    assert "has no column 'text', but 'review', 'label'" in done.stderr.decode()


@pytest.mark.parametrize("command", ["train", "predict"])
def test_a_path_that_is_not_utf_8_is_refused(run, command):
    done = run(command, "--model_dir=caf\udce9")
    assert done.returncode == 1
    assert r"'--model_dir=caf\udce9' is not UTF-8; rename" in done.stderr.decode()


def test_a_folder_below_a_file_is_refused(run, flags, tmp_path):
    (tmp_path / "file").touch()
    done = run("train", f"--model_dir={tmp_path / 'file' / 'run'}", *flags)
    assert done.returncode == 1
    assert "cannot be created: Not a directory; name another folder" in done.stderr.decode()
