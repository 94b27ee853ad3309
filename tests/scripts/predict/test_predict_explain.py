"""predict --explain."""

import json
import math
import os

import numpy as np
import pytest


@pytest.fixture(scope="module")
def explained(trained, run):
    """The rows of predict --explain in TSV."""
    arguments = (f"--model_dir={trained}", "--explain", "A good film.", "")
    return run("predict", *arguments).stdout.decode().splitlines()


def test_explanations_are_a_further_column(explained):
    good, empty = (row.split("\t") for row in explained)
    assert [pair.split("=")[0] for pair in good[3].split()] == ["a", "good", "film"]
    assert all(np.isfinite(float(pair.split("=")[1])) for pair in good[3].split())
    assert len(good) == len(empty) == 4


def test_explanations_are_part_of_json(trained, run, explained):
    done = run(
        "predict",
        f"--model_dir={trained}",
        "--explain",
        "--format=jsonl",
        stdin=b"A good film.\n\n",
    )
    rows = [json.loads(row) for row in done.stdout.splitlines()]
    for row, tabbed in zip(rows, explained, strict=True):
        logit = row["baseline"] + sum(weight for _, weight in row["words"])
        assert 1 / (1 + math.exp(-logit)) == pytest.approx(row["probability"], abs=1e-4)
        assert f"{row['probability']:.6f}" == tabbed.split("\t")[1]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_explanations_are_coloured_on_a_terminal_unless_no_color_is_set(
    trained, call, monkeypatch, no_color
):
    monkeypatch.setenv("NO_COLOR", no_color)
    reading, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        assert call("predict", f"--model_dir={trained}", "--explain", "A good film.") == 0
        shown = os.read(reading, 10_000)
    os.close(reading)
    assert (b"\x1b[30;48;5;" in shown) != bool(no_color)
    assert (b"good=" in shown) == bool(no_color)
