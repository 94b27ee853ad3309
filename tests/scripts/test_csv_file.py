"""A CSV file with named columns and labels, from training to the SavedModel."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.small import SMALL


@pytest.mark.slow
def test_a_csv_file_from_training_to_the_saved_model(train_examples, run, tmp_path):
    """The path has a space."""
    rows = [
        (number, text.decode(errors="replace"), ("thumbs down", "thumbs up")[label])
        for number, (text, label) in enumerate(train_examples)
    ]
    folder = tmp_path / "my reviews"
    folder.mkdir()
    with (folder / "all.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "body", "verdict"), *rows])
    settings = {**SMALL, "dataset": folder / "all.csv", "cache_dir": tmp_path / "cache"}
    settings |= {"text_column": "body", "label_column": "verdict", "encoder": "pooled_lstm"}
    settings |= {"units": 8, "epochs": 1}
    model = f"--model_dir={tmp_path / 'own'}"
    flags = [f"--{name}={value}" for name, value in settings.items()]
    done = run("train", model, "--format=json", *flags)
    assert done.returncode == 0, done.stderr.decode()
    results = json.loads(done.stdout)
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    assert results["examples"] + sum(config["reviews"].values()) == len(rows)
    texts = [text for _, text, _ in rows[:20]]
    done = run("predict", model, "--format=jsonl", *texts)
    assert done.returncode == 0, done.stderr.decode()
    predicted = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["label"] for row in predicted} <= {"thumbs down", "thumbs up"}
    assert run("export", model).returncode == 0
    serve = tf.saved_model.load(str(tmp_path / "own" / "export")).signatures["serving_default"]
    served = serve(tf.constant(texts))
    probabilities = [row["probability"] for row in predicted]
    np.testing.assert_allclose(served["probability"], probabilities, atol=1e-5)
    assert [label.decode() for label in served["label"].numpy()] == [r["label"] for r in predicted]
    measured = run("evaluate", model, f"--cache_dir={tmp_path / 'cache'}")
    assert f"accuracy\t{results['accuracy']}" in measured.stdout.decode()
