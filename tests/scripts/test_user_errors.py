"""User errors: one line on stderr, an exit code, and no files."""

import pytest

from pipeline import DATASETS
from tests.helpers import copy_run


@pytest.mark.parametrize(
    ("script", "arguments", "message", "code"),
    [
        ("train", ["--dataset=imdb"], "nor a data set of TensorFlow Datasets; names like it: ", 1),
        ("train", ["--dataset=none.csv"], f"({', '.join(DATASETS)}) nor a file", 1),
        ("train", ["--dataset={}", "--test_split=test"], "for files: --split_column=COLUMN", 1),
        ("train", ["--epoch=3"], "Did you mean: epochs", 1),
        ("train", ["--epochs=0"], "--epochs=0 is out of range; it must be at least 1", 1),
        ("train", ["--epochs=many"], "--epochs=many", 1),
        ("train", ["--download=2"], "--download=2: Non-boolean argument to boolean flag;", 1),
        ("train", ["--validation_fraction=1"], "--validation_fraction=1.0 is out of range", 1),
        ("train", ["epochs=3"], "'epochs=3' is not a flag; write --name=value", 1),
        ("train", ["--flagfile=none.flags"], "none.flags", 1),
        ("train", ["--model_dir="], "--model_dir=runs/NAME", 1),
        ("train", ["--dataset=imdb_reviews", "--nodownload", "--data_dir={}/no"], "--data_dir", 2),
        ("train", ["--dataset=imdb_reviews", "--data_dir={}/no"], "--dataset=imdb_offline", 2),
        (
            "predict",
            ["fine"],
            "contains no run (no config.json); train one: python -m scripts.train",
            1,
        ),
        ("evaluate", [], "contains no run", 1),
        ("evaluate", ["--split=all"], "train|validation|test", 1),
        ("export", [], "contains no run", 1),
        ("train", ["--dataset=gs://b/r.csv"], "--dataset=gs://b/r.csv is not in a file system", 1),
        ("export", ["--export_dir=gs://b/e"], "--export_dir=gs://b/e is not in a file", 1),
        ("predict", ["--format=xml"], "tsv|jsonl", 1),
    ],
)
def test_user_errors_are_one_line_and_write_nothing(
    run, tmp_path, monkeypatch, script, arguments, message, code
):
    arguments = [argument.format(tmp_path) for argument in arguments]
    for scheme in ("http", "https"):  # so that no machine can download a data set
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    done = run(script, f"--model_dir={tmp_path / 'run'}", *arguments)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == code, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert done.stdout == b""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--epochs=0"], 1),
        pytest.param(
            ["--dataset=imdb_reviews", "--nodownload", "--data_dir={}/no"],
            2,
            marks=pytest.mark.slow,  # it imports TensorFlow
        ),
    ],
)
def test_the_process_ends_with_exit_code_and_one_line(run_process, tmp_path, arguments, code):
    arguments = [argument.format(tmp_path) for argument in arguments]
    done = run_process("train", f"--model_dir={tmp_path / 'run'}", *arguments)
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: ")
    assert (done.returncode, done.stdout) == (code, b"")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--vocab_size=600", "vocab_size (500, not 600)"),
        ("--dataset=imdb_reviews", "dataset (imdb_offline, not imdb_reviews)"),
        ("--seed=5", "seed (0, not 5)"),
    ],
)
def test_settings_that_disagree_with_the_run_are_refused(
    trained, run, flags, tmp_path, argument, message
):
    model_dir = copy_run(trained, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in model_dir.rglob("*")}
    done = run("train", f"--model_dir={model_dir}", *flags, argument)
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, len(lines)) == (1, 1), lines
    assert message in lines[0]
    assert {path: path.stat().st_mtime_ns for path in model_dir.rglob("*")} == before
