"""evaluate on other data than that of the run."""

import json

import pytest

from tests.helpers import write_csv

ROWS = [
    (f"a {w} film number {n}", label)
    for n in range(30)
    for w, label in (("dull", "bad"), ("fine", "so-so"), ("great", "good"))
]
SETTINGS = ("--encoder=none", "--ngrams=1", "--batch_size=16", "--epochs=2", "--learning_rate=0.05")

pytestmark = pytest.mark.usefixtures("small_ngram_tables")


@pytest.fixture
def evaluate(run, tmp_path, cache_dir):
    """Trains a run on rows.csv, and evaluates it: evaluate(flags) returns code, stdout, stderr."""
    path, cache = write_csv(tmp_path / "rows.csv", ROWS), f"--cache_dir={cache_dir}"
    model_dir = f"--model_dir={tmp_path / 'run'}"
    done = run("train", model_dir, f"--dataset={path}", cache, *SETTINGS)
    assert done.returncode == 0, done.stderr.decode()
    return lambda *flags: run(
        "evaluate", model_dir, cache, "--format=json", "--verbosity=0", *flags
    )


def test_moved_files_are_the_data_of_the_run(evaluate, tmp_path):
    before = json.loads(evaluate().stdout)
    moved = (tmp_path / "rows.csv").rename(tmp_path / "moved.csv")
    assert evaluate().returncode == 1
    done = evaluate(f"--dataset={moved}")
    assert "moved.csv: the data of the run; evaluating its test split" in done.stderr.decode()
    assert json.loads(done.stdout) == before | {"dataset": str(moved)}
    assert (tmp_path / "run" / "evaluation" / "test" / "errors.csv").exists()


def test_all_rows_of_new_files_are_evaluated(evaluate, tmp_path):
    rows = [(f"{text} of may", label) for text, label in ROWS if label != "bad"]
    new = write_csv(tmp_path / "may 2026.csv", rows, ("body", "stars"))
    done = evaluate(f"--dataset={new}", "--text_column=body", "--label_column=stars")
    assert done.returncode == 0, done.stderr.decode()
    assert "other data than that of the run; evaluating " in done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["examples"] == len(rows)
    assert found["accuracy"] == 1
    assert [values["examples"] for values in found["classes"].values()] == [0, 30, 30]
    assert (tmp_path / "run" / "evaluation" / "may_2026.csv-test" / "errors.csv").exists()
    done = evaluate(
        f"--dataset={new}", "--text_column=body", "--label_column=stars", "--split=train"
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert "has no train split; use --split=test" in done.stderr.decode()


def test_unknown_labels_must_be_renamed(evaluate, tmp_path):
    new = write_csv(
        tmp_path / "new.csv", [(t, label.replace("good", "great")) for t, label in ROWS]
    )
    done = evaluate(f"--dataset={new}")
    assert done.returncode == 1
    assert "rename them, such as --label_map=great:bad" in done.stderr.decode()
    done = evaluate(f"--dataset={new}", "--label_map=great:good")
    assert json.loads(done.stdout)["accuracy"] == 1


def test_a_named_data_set_and_files_may_replace_each_other(trained, run, data_flags, tmp_path):
    new = write_csv(tmp_path / "new.csv", [("a good film", "pos"), ("a bad film", "neg")])
    report = f"--report_dir={tmp_path / 'report'}"
    done = run("evaluate", f"--model_dir={trained}", f"--dataset={new}", "--format=json", report)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["examples"] == 2
    split = ["--dataset=imdb_offline", "--test_split=train[:20]", *data_flags]
    done = run("evaluate", f"--model_dir={trained}", *split, "--format=json", report)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["examples"] == 20
