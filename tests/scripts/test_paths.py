"""Paths with spaces, from the home folder, and from other folders."""


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
