"""train: its files, its log, TensorBoard, and the splits that it reads."""

import collections
import contextlib
import csv
import fcntl
import hashlib
import json
import os
import pty
import re
import shutil
import struct
import termios
import threading

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import read_scalars

LOG_LINE = re.compile(r"\d\d:\d\d:\d\d  \S.*")


def test_training_leaves_every_file_of_the_contract(train_process):
    model_dir = train_process.model_dir
    assert set(train_process.files) == {
        "config.json",
        "vocabulary.txt",
        "checkpoints",
        "best",
        "train",
        "validation",
        "history.csv",
        "curves.png",
        "results.json",
        "settings.flags",
    }
    results = json.loads((model_dir / "results.json").read_text())
    printed = dict(line.split("\t") for line in train_process.stdout.splitlines())
    assert list(printed) == list(results)
    for name, value in results.items():
        assert printed[name] == value or json.loads(printed[name]) == value
    config = json.loads((model_dir / "config.json").read_text())
    vocabulary = (model_dir / "vocabulary.txt").read_bytes()
    assert config["vocabulary_sha256"] == hashlib.sha256(vocabulary).hexdigest()
    assert config["settings"]["batch_size"] == 16
    assert config["versions"]["tensorflow"] == tf.__version__


def test_training_prints_nothing_but_its_own_lines(train_process):
    lines = train_process.stderr.splitlines()
    always = [line[10:] for line in lines if not re.search(r"ETA|\d s so far$", line)]
    beginnings = (
        f"{train_process.model_dir}: a new run on imdb_offline",
        "labels: 0 = neg, 1 = pos (positive)",
        "imdb_offline: source of each split: train: train, validation: taken from train, ",
        "imdb_offline: examples: ",
        "CPU, float32, ",
        "compiling the training step",
        "epoch 1/2  train ",
        "epoch 2/2  train ",
        "finished; best epoch ",
    )
    assert len(always) == len(beginnings)
    assert all(map(str.startswith, always, beginnings)), lines
    assert all(LOG_LINE.fullmatch(line) for line in lines), lines


def test_log_tensorboard_history_and_results_have_the_same_numbers(train_process):
    model_dir = train_process.model_dir
    with (model_dir / "history.csv").open(newline="") as file:
        history = list(csv.DictReader(file))
    epochs = [line for line in train_process.stderr.splitlines() if "validation loss" in line]
    logged = re.findall(r"(\w+) (\d\.\d{4})", " ".join(epochs))
    assert [row["epoch"] for row in history] == ["1", "2"]
    shown = []
    names = ["loss", "accuracy", "auc"]
    for split, measured in (
        ("train", names),
        ("validation", [*names, "macro_f1", "calibration_error"]),
    ):
        curves = read_scalars(model_dir / split)
        for row in history:
            for name in measured:
                value = float(row[f"{split}_{name}"])
                assert np.float32(value) == np.float32(curves[f"epoch/{name}", int(row["step"])])
                shown.append((name, f"{value:.4f}"))
    assert sorted(shown) == sorted(logged)
    results = json.loads((model_dir / "results.json").read_text())
    best = min(history, key=lambda row: float(row["validation_loss"]))
    assert results["validation_loss"] == float(best["validation_loss"])
    assert results["best_epoch"] == int(best["epoch"])
    assert results["steps"] == int(history[-1]["step"])


def test_tensorboard_has_the_curves_over_steps(trained):
    model_dir = trained
    curves = read_scalars(model_dir / "train")
    steps_per_epoch = max(step for _, step in curves) // 2
    expected = sorted({*range(5, steps_per_epoch, 5), steps_per_epoch})
    for name in ("loss", "accuracy", "auc", "learning_rate", "gradient_norm"):
        steps = [step for tag, step in curves if tag == f"step/{name}"]
        assert steps[: len(expected)] == expected
    for name in ("examples_per_second", "tokens_per_second"):
        values = [value for (tag, _), value in curves.items() if tag == f"step/{name}"]
        assert len(values) == 2 * len(expected)
        assert min(values) > 0


def test_the_test_split_is_not_read_before_training_has_ended(
    trained, run, flags, data_dir, tmp_path
):
    """If it is missing, all epochs are trained and recorded before the error."""
    shutil.copytree(data_dir, tmp_path / "data")
    for path in (tmp_path / "data").rglob("*-test.*"):
        path.unlink()
    model_dir = tmp_path / "run"
    done = run("train", f"--model_dir={model_dir}", *flags, f"--data_dir={tmp_path / 'data'}")
    assert done.returncode == 2
    assert re.search(r"^error: imdb_offline cannot be read .*rm -r ", done.stderr.decode(), re.M)
    assert not (model_dir / "results.json").exists()
    for name in ("history.csv", "vocabulary.txt"):
        assert (model_dir / name).read_bytes() == (trained / name).read_bytes()


def test_the_vocabulary_comes_only_from_the_train_split(trained, small_config):
    """The reference counts the words of the training texts."""
    from pipeline.named_dataset.dataset import open_dataset
    from pipeline.reading import hash_buckets, in_validation
    from pipeline.text.standardization import standardize

    reviews = open_dataset("imdb_offline", data_dir=small_config.data_dir, download=False)
    texts = np.concatenate([texts for texts, _ in reviews.read("train")])
    texts = texts[~in_validation(hash_buckets(texts), validation_fraction=0.2)]
    texts = standardize(texts).numpy()
    counts = collections.Counter(b" ".join(texts).decode().split())
    words = (trained / "vocabulary.txt").read_text().splitlines()
    frequencies = [counts[word] for word in words]
    assert all(frequencies)
    assert frequencies == [n for _, n in counts.most_common(len(words))]


@pytest.mark.slow
def test_a_terminal_shows_a_bar_with_the_remaining_time(call, flags, tmp_path, monkeypatch):
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 40, 160, 0, 0))
    chunks = []

    def read():
        with contextlib.suppress(OSError):  # raised when the other end is closed
            while chunk := os.read(terminal, 4096):
                chunks.append(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    with os.fdopen(end, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        assert call("train", f"--model_dir={tmp_path / 'run'}", *flags) == 0
        monkeypatch.undo()
    thread.join()
    shown = b"".join(chunks).decode()
    assert re.search(r"epoch 2/2: +\d+%\|.*\| \d+/\d+ \[\d\d:\d\d<\d\d:\d\d", shown)
