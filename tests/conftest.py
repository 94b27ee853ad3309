"""Small real data, a small real run, and commands run as users run them."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the bits and bounds here are a CPU's
os.environ["TF_NUM_INTRAOP_THREADS"] = "1"  # as commands run, or the bits differ
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).parents[1]
REVIEWS = 400
DUPLICATES = 40  # texts of the small data set that stand in it twice

# Settings small enough for seconds, on the small data set.
SMALL = {
    "dataset": "imdb_offline",
    "vocab_size": 500,
    "sequence_length": 40,
    "embedding_dim": 8,
    "batch_size": 16,
    "epochs": 2,
    "learning_rate": 0.005,
    "summary_every": 5,
    "checkpoint_every": 4,
}


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A TFDS folder with a small imdb_offline: prepared by its own builder, from fewer reviews."""
    from pipeline.datasets import open_dataset
    from pipeline.imdb_offline import imdb_offline_dataset_builder as module

    by_length = sorted(module.read_reviews(), key=lambda review: len(review[0]))
    few = by_length[: REVIEWS - DUPLICATES]
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read_reviews", lambda: few + few[-DUPLICATES:])
        open_dataset("imdb_offline", data_dir=str(folder), download=True)
    return folder


@pytest.fixture(scope="session")
def train_reviews(data_dir):
    """The (text <bytes>, label) pairs of its train split."""
    from pipeline.datasets import open_dataset

    batches = open_dataset("imdb_offline", data_dir=str(data_dir), download=False).read("train")
    return list(batches.unbatch().as_numpy_iterator())


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """A cache of the session's own; what is in it was made by commands and by the tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def small_config(data_dir, cache_dir):
    """The small settings as a TrainConfig."""
    from trainer.config import TrainConfig

    return TrainConfig(**SMALL, data_dir=str(data_dir), cache_dir=str(cache_dir))


@pytest.fixture(scope="session")
def flags(data_dir, cache_dir):
    """The small settings as flags."""
    settings = {**SMALL, "data_dir": data_dir, "cache_dir": cache_dir}
    return [f"--{name}={value}" for name, value in settings.items()]


@pytest.fixture(scope="session")
def start():
    """Starts a command: start("train", "--model_dir=...") is python -m scripts.train."""

    def start(script: str, *arguments: object, **popen: object) -> subprocess.Popen:
        command = [sys.executable, "-m", f"scripts.{script}", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE}
        environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
        where = {"cwd": ROOT, "env": environment}
        return subprocess.Popen(command, **{**pipes, **where, **popen})

    return start


@pytest.fixture(scope="session")
def run(start):
    """Runs a command to its end and answers its exit code, stdout and stderr."""

    def run(script: str, *arguments: object, stdin: bytes = b"", **popen: object):
        process = start(script, *arguments, **popen)
        out, err = process.communicate(stdin, timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture
def call(monkeypatch):
    """Runs a command in this process: call("train", "--model_dir=...") returns its exit code."""
    from scripts.cli import commands, streams

    monkeypatch.setattr(streams, "quiet_stderr", contextlib.nullcontext)
    loggers = [logging.getLogger(name) for name in ("pipeline", "model", "trainer", "scripts")]
    before = [(logger.level, logger.handlers, logger.propagate) for logger in loggers]

    def call(name, *arguments):
        command = importlib.import_module(f"scripts.{name}")
        return commands.call(command.main, command.define_flags, list(map(str, arguments)))

    yield call
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate


@pytest.fixture(scope="session")
def trained(tmp_path_factory, run, flags):
    """The model_dir of a run by scripts.train, and what the command answered."""
    model_dir = tmp_path_factory.mktemp("runs with a space") / "small"
    done = run("train", f"--model_dir={model_dir}", *flags)
    assert done.returncode == 0, done.stderr.decode()
    return model_dir, done
