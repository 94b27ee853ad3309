"""evaluate: its metrics and its report."""

import csv
import json
import shutil

import pytest


def test_evaluate_agrees_with_results_json(trained, run):
    model_dir = trained
    results = json.loads((model_dir / "results.json").read_text())
    done = run("evaluate", f"--model_dir={model_dir}")
    assert done.returncode == 0
    assert done.stderr == b""
    metrics = dict(line.split("\t") for line in done.stdout.decode().splitlines())
    measured = ["loss", "accuracy", "macro_f1", "auc", "calibration_error"]
    decided = ["precision", "recall", "f1", "confusion_matrix", "by_length"]
    assert list(metrics) == ["dataset", "split", "examples", *measured, *decided]
    for name, value in metrics.items():
        assert value == str(results[name]) or json.loads(value) == results[name]
    as_json = run("evaluate", f"--model_dir={model_dir}", "--format=json")
    assert json.loads(as_json.stdout) == {name: results[name] for name in metrics}


def test_the_report_lists_confident_errors_and_draws_curves(trained, run, train_examples, tmp_path):
    model_dir = trained
    folder = tmp_path / "a report"
    arguments = [f"--model_dir={model_dir}", "--split=validation", "--format=json"]
    done = run("evaluate", *arguments, f"--report_dir={folder}")
    assert done.returncode == 0, done.stderr.decode()
    (_, false_positives), (false_negatives, _) = json.loads(done.stdout)["confusion_matrix"]
    with (folder / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == min(100, false_positives + false_negatives)
    sureness = [abs(float(row["probability"]) - 0.5) for row in rows]
    assert sureness == sorted(sureness, reverse=True)
    labels = {text.decode(): label for text, label in train_examples}
    for row in rows:
        assert row["label"] == ("neg", "pos")[labels[row["text"]]] != row["answer"]
    predicted = run("predict", f"--model_dir={model_dir}", *(row["text"] for row in rows[:5]))
    for row, line in zip(rows, predicted.stdout.decode().splitlines(), strict=False):
        assert line.split("\t")[:2] == [row["answer"], row["probability"]]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_evaluate_reads_the_data_set_in_data_dir(trained, run, data_dir, tmp_path):
    model_dir = trained
    moved = tmp_path / "moved"
    shutil.copytree(data_dir, moved)
    at_home = run("evaluate", f"--model_dir={model_dir}", "--split=validation")
    done = run("evaluate", f"--model_dir={model_dir}", "--split=validation", f"--data_dir={moved}")
    assert (done.returncode, done.stdout) == (0, at_home.stdout)
    for path in moved.rglob("*-train.*"):
        path.unlink()
    done = run("evaluate", f"--model_dir={model_dir}", "--split=validation", f"--data_dir={moved}")
    assert done.returncode == 2
    assert str(moved) in done.stderr.decode()
