"""predict: the header, the threshold, another explained label, and the log line of the labels."""

import json

import pytest

from tests.helpers import config_for_file, write_csv
from trainer.run import train

TEXTS = ["a great film", "a dull film", ""]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """The model_dir of a run with three labels."""
    folder = tmp_path_factory.mktemp("three")
    words = {"bad": "dull", "fine": "fair", "good": "great"}
    rows = [(f"a {word} film {n}", label) for n in range(60) for label, word in words.items()]
    train(config_for_file(write_csv(folder / "a.csv", rows), ""), folder / "run")
    return folder / "run"


def test_the_labels_are_logged_unless_the_log_is_off(trained, three, run):
    done = run("predict", f"--model_dir={trained}", "--verbosity=0", "fine")
    assert done.stderr.decode()[10:] == "labels: 0 = neg, 1 = pos (positive)\n"
    done = run("predict", f"--model_dir={three}", "--verbosity=0", "fine")
    assert done.stderr.decode()[10:] == "labels: 0 = bad, 1 = fine, 2 = good\n"
    assert run("predict", f"--model_dir={three}", "--verbosity=-1", "fine").stderr == b""


def test_the_threshold_decides_between_two_labels(trained, run):
    predict = ("predict", f"--model_dir={trained}", "--format=jsonl")
    rows = [json.loads(line) for line in run(*predict, *TEXTS).stdout.splitlines()]
    highest = max(row["probability"] for row in rows)
    for threshold in (0, 0.5, highest, 1):
        done = run(*predict, f"--threshold={threshold!r}", *TEXTS)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        expected = ["pos" if row["probability"] >= threshold else "neg" for row in rows]
        assert [row["label"] for row in found] == expected
        assert [row["probability"] for row in found] == [row["probability"] for row in rows]
    done = run("predict", f"--model_dir={trained}", "--threshold=0", *TEXTS)
    assert all(line.startswith(b"pos\t") for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("trained", ["--threshold=1.5"], "--threshold=1.5 is out of range"),
        ("trained", ["--threshold=nan"], "--threshold=nan is out of range"),
        ("three", ["--threshold=0.5"], "--threshold=0.5 is for two labels, and the run has 3"),
        ("three", ["--explain_class=best"], "'best' is not a label of the run; choose one of "),
        ("trained", ["--header", "--format=jsonl"], "--header is for --format=tsv"),
    ],
)
def test_options_that_do_not_fit_are_user_errors(request, run, model, arguments, message):
    folder = request.getfixturevalue(model)
    done = run("predict", f"--model_dir={folder}", *arguments, "--verbosity=-1", "fine")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().startswith(f"error: {message}")


def test_the_header_names_the_columns_and_ids_are_copied(three, run, tmp_path):
    rows = [(text, f"id {n}", "x") for n, text in enumerate(TEXTS[:2])]
    path = write_csv(tmp_path / "a.csv", rows, header=("text", "id", "a\tb"))
    arguments = (f"--input={path}", "--keep_columns=id,a\tb", "--header")
    done = run("predict", f"--model_dir={three}", *arguments, "--explain")
    header, *lines = (line.split("\t") for line in done.stdout.decode().splitlines())
    assert header == ["label", "probability", "text", "id", r"a\tb", "words"]
    assert [dict(zip(header, line, strict=True))["id"] for line in lines] == ["id 0", "id 1"]
    done = run("predict", f"--model_dir={three}", "--header", "fine")
    assert done.stdout.splitlines()[0] == b"label\tprobability\ttext"


def test_a_row_has_the_probability_of_the_predicted_one_of_three_labels(three, run):
    shown = run("predict", f"--model_dir={three}", *TEXTS).stdout.decode().splitlines()
    rows = run("predict", f"--model_dir={three}", "--format=jsonl", *TEXTS).stdout.splitlines()
    for line, row in zip(shown, map(json.loads, rows), strict=True):
        label, probability, _ = line.split("\t")
        assert probability == f"{row['probabilities'][label]:.6f}"
        assert label == max(row["probabilities"], key=row["probabilities"].get)


def test_another_label_than_the_predicted_one_is_explained(three, trained, run):
    def words(model_dir, *arguments):
        done = run("predict", f"--model_dir={model_dir}", "--format=jsonl", *arguments, TEXTS[0])
        return json.loads(done.stdout)

    predicted = words(three, "--explain")
    assert words(three, f"--explain_class={predicted['label']}") == predicted
    other = next(label for label in predicted["probabilities"] if label != predicted["label"])
    assert words(three, f"--explain_class={other}")["words"] != predicted["words"]
    positive = words(trained, "--explain")["words"]
    for (token, added), (other, removed) in zip(
        positive, words(trained, "--explain_class=neg")["words"], strict=True
    ):
        assert token == other
        assert added == pytest.approx(-removed, abs=1e-6)
