"""runs: the table of the runs below a folder."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys

import pytest

from tests.small import ROOT
from trainer.config import TrainConfig


def make_run(folder, losses=(), *, is_finished=False, **settings):
    """Writes the text files of a run with one epoch for each validation loss."""
    folder.mkdir(parents=True)
    config = dataclasses.asdict(TrainConfig(**settings))
    (folder / "config.json").write_text(json.dumps({"settings": config}))
    (folder / "vocabulary.txt").write_text("good\n")
    rows = [(n, 10 * n, loss, 1 - loss) for n, loss in enumerate(losses, start=1)]
    if rows:
        with (folder / "history.csv").open("w", newline="") as file:
            header = ("epoch", "step", "validation_loss", "validation_accuracy")
            csv.writer(file).writerows([header, *rows])
    if is_finished:
        results = {"accuracy": 0.9, "loss": 0.25, "macro_f1": 0.8, "train_seconds": 12.34}
        (folder / "results.json").write_text(json.dumps(results))


@pytest.fixture
def folder(tmp_path):
    """Four usable runs of two metrics, damaged runs, and other files."""
    runs = tmp_path / "runs"
    make_run(runs / "worse", [0.5, 0.4], is_finished=True, learning_rate=0.1)
    make_run(runs / "better" / "deep", [0.3, 0.35], is_finished=True)
    make_run(runs / "new")
    make_run(runs / "accuracy", [0.6, 0.2], best_metric="accuracy", epochs=3)
    for name, file in (("a", "config.json"), ("b", "history.csv"), ("c", "results.json")):
        shutil.copytree(runs / "worse", runs / "damaged" / name)
        (runs / "damaged" / name / file).write_text("\0")
    (runs / "export").mkdir()
    (runs / "export" / "config.json").write_text("of another program")
    return runs


def test_runs_are_sorted_by_validation_and_damaged_ones_have_a_reason(folder, call, capsys):
    assert call("runs", folder, "--format=json") == 0
    rows = json.loads(capsys.readouterr().out)
    by_name = {row["run"].removeprefix(f"{folder}/"): row for row in rows}
    names = ["accuracy", "better/deep", "damaged/c", "worse"]
    assert [*by_name] == [*names, "damaged/a", "damaged/b", "new"]
    assert by_name["worse"] == {
        "run": str(folder / "worse"),
        "epochs": 5,
        "learning_rate": 0.1,
        "best_metric": "loss",
        "status": "finished",
        "epochs_done": 2,
        "steps_done": 20,
        "metric": "loss",
        "validation": 0.4,
        "test_accuracy": 0.9,
        "test_loss": 0.25,
        "test_macro_f1": 0.8,
        "seconds": 12.34,
    }
    assert by_name["accuracy"]["validation"] == 0.8
    assert by_name["accuracy"]["status"] == by_name["new"]["status"] == "unfinished"
    for name, file in (("a", "config.json"), ("b", "history.csv"), ("c", "results.json")):
        assert by_name[f"damaged/{name}"]["status"].startswith(f"damaged: {file}: ")
    assert by_name["damaged/c"]["validation"] == 0.4


@pytest.mark.parametrize("content", ["[]", "3", '{"settings": 3}', '{"settings": {"epochs": []}}'])
def test_any_json_is_a_row(tmp_path, call, capsys, content):
    for file in ("config.json", "results.json"):
        make_run(tmp_path / file, [0.5], is_finished=True)
        (tmp_path / file / file).write_text(content)
    assert call("runs", tmp_path, "--format=csv") == 0
    assert len(list(csv.DictReader(capsys.readouterr().out.splitlines()))) == 2


def test_results_of_an_older_version_have_fewer_values(tmp_path, call, capsys):
    make_run(tmp_path / "run", [0.5])
    (tmp_path / "run" / "results.json").write_text('{"accuracy": 0.9}')
    assert call("runs", tmp_path, "--format=json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["status"], row["test_accuracy"], row["test_macro_f1"]) == ("finished", 0.9, None)


def test_the_table_and_csv_have_the_same_rows(folder, call, capsys):
    assert call("runs", f"{folder}/worse", f"{folder}/better") == 0
    header, first, second = capsys.readouterr().out.splitlines()
    shown = "0.001 finished 2 20 loss 0.3000 0.9000 0.2500 0.8000 12.3"
    assert " ".join(first.split()[1:]) == shown
    assert header.index("learning_rate") == first.index("0.001") == second.index("0.1 ")
    assert call("runs", f"{folder}/worse", f"{folder}/better", "--format=csv") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["run"] for row in rows] == [first.split()[0], second.split()[0]]
    assert list(rows[0]) == header.split()


def test_no_run_is_a_user_error(tmp_path, call, capsys):
    for arguments in ([], [tmp_path], [tmp_path / "none"]):
        assert call("runs", *arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert "name a folder" in line


def test_a_trained_run_is_a_row_without_tensorflow(trained):
    program = (
        "import sys; from scripts import runs; from scripts.cli import commands;"
        "import atexit, os; atexit.register(lambda: 'tensorflow' in sys.modules and os._exit(1));"
        "commands.run(runs.main, runs.define_flags)"
    )
    command = [sys.executable, "-c", program, str(trained), "--format=json"]
    out = subprocess.check_output(command, cwd=ROOT)
    results = json.loads((trained / "results.json").read_text())
    (row,) = json.loads(out)
    assert row["test_macro_f1"] == results["macro_f1"]
    assert (row["epochs_done"], row["steps_done"]) == (results["epochs"], results["steps"])
    assert row["validation"] == results["validation_loss"]
