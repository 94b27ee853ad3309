"""Fixtures: a small data set of real texts, small trained runs, and the commands."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import types

import hypothesis
import pytest

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the bits and tolerances of these tests are a CPU's
os.environ["TF_NUM_INTRAOP_THREADS"] = "1"  # as in the commands; otherwise the bits differ
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests.small import DUPLICATES, EXAMPLES, ROOT, SMALL, flags_of, only_one_process

# A deadline would assert on time, which a busy machine decides.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Makes a folder once for all test processes: shared("name", make) returns its path.

    `make` gets the path of the folder, which does not exist yet.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def shared(name, make):
        folder, done = base / "shared" / name, base / f"{name} is done"
        folder.parent.mkdir(exist_ok=True)
        with only_one_process(base / f"{name}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return shared


@pytest.fixture(scope="session")
def data_dir(shared):
    """A TFDS folder with a small imdb_offline, prepared by its builder from fewer texts."""
    from pipeline.imdb_offline import imdb_offline_dataset_builder as module
    from pipeline.named_dataset.dataset import open_dataset

    def make(folder):
        by_length = sorted(module.read_reviews(), key=lambda example: len(example[0]))
        few = by_length[: EXAMPLES - DUPLICATES]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "read_reviews", lambda: few + few[-DUPLICATES:])
            open_dataset("imdb_offline", data_dir=str(folder), download=True)

    return shared("tensorflow_datasets", make)


@pytest.fixture(scope="session")
def train_examples(data_dir):
    """The (text <bytes>, label) pairs of its train split."""
    from pipeline.named_dataset.dataset import open_dataset

    batches = open_dataset("imdb_offline", data_dir=str(data_dir), download=False).read("train")
    return list(batches.unbatch().as_numpy_iterator())


@pytest.fixture(scope="session")
def cache_dir(shared):
    """A cache that commands and tests share."""
    return shared("cache", lambda folder: folder.mkdir())


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
def data_flags(data_dir, cache_dir):
    """The flags that name the folders of data and cache."""
    return [f"--data_dir={data_dir}", f"--cache_dir={cache_dir}"]


@pytest.fixture(scope="session")
def splits(small_config):
    """The tokenizer, the train split and the validation split of the small data set."""
    from trainer.data import make_tokenizer, open_corpus

    corpus = open_corpus(small_config)
    tokenizer = make_tokenizer(corpus.vocabulary(), small_config)
    return tokenizer, *(corpus.examples(split, tokenizer) for split in ("train", "validation"))


# Commands


@pytest.fixture(scope="session")
def start_process():
    """Starts a command: start_process("train", "--model_dir=...") is python -m scripts.train."""

    def start_process(script: str, *arguments: object, **popen: object) -> subprocess.Popen:
        command = [sys.executable, "-m", f"scripts.{script}", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE}
        environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
        where = {"cwd": ROOT, "env": environment}
        return subprocess.Popen(command, **{**pipes, **where, **popen})

    return start_process


@pytest.fixture(scope="session")
def run_process(start_process):
    """Runs a command in a new process to its end: exit code, stdout and stderr.

    Importing TensorFlow takes seconds; use `run` unless the process itself is tested.
    """

    def run_process(script: str, *arguments: object, stdin: bytes = b"", **popen: object):
        process = start_process(script, *arguments, **popen)
        out, err = process.communicate(stdin, timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run_process


@contextlib.contextmanager
def _restored_loggers():
    loggers = [logging.getLogger(name) for name in ("pipeline", "model", "trainer", "scripts")]
    before = [(logger.level, logger.handlers, logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate


def _call(name: str, *arguments: object) -> int:
    from scripts.cli import commands

    command = importlib.import_module(f"scripts.{name}")
    with flags_of(command):
        try:
            _, *rest = commands._parse([name, *map(str, arguments)], command)
        except SystemExit as error:
            return error.code
        return commands._run_main(command.main, rest)


@pytest.fixture
def call(monkeypatch):
    """Runs a command in this process: call("train", "--model_dir=...") returns its exit code."""
    from scripts.cli import streams

    monkeypatch.setattr(streams, "quiet_stderr", contextlib.nullcontext)
    with _restored_loggers():
        yield _call


@pytest.fixture(scope="session")
def run():
    """Runs a command in this process, with separate standard streams.

    run("predict", ..., stdin=b"...") returns its exit code, stdout and stderr, as `run_process`.
    """
    from scripts.cli import streams

    def run(name: str, *arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess:
        with contextlib.ExitStack() as stack:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            stack.enter_context(_restored_loggers())
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            files[0].write(stdin)
            files[0].seek(0)
            for stream, mode, file in zip(("stdin", "stdout", "stderr"), "rww", files, strict=True):
                opened = os.fdopen(os.dup(file.fileno()), mode, encoding="utf-8")
                patch.setattr(sys, stream, stack.enter_context(opened))
            patch.setattr(streams, "quiet_stderr", contextlib.nullcontext)
            code = _call(name, *arguments)
            sys.stdout.flush()
            sys.stderr.flush()
            for file in files[1:]:
                file.seek(0)
            return subprocess.CompletedProcess(name, code, *(file.read() for file in files[1:]))

    return run


# Trained runs; each is trained once for all test processes


@pytest.fixture(scope="session")
def train_process(shared, run_process, flags):
    """A small LSTM run that was trained in its own process.

    It has `model_dir`, and as they were at the end of the process: `files`, the names in model_dir,
    `stdout` and `stderr`. Tests must not change the run, except evaluate, which writes a report.
    """

    def make(folder):
        model_dir = folder / "runs with a space" / "small"
        done = run_process("train", f"--model_dir={model_dir}", *flags)
        assert done.returncode == 0, done.stderr.decode()
        files = sorted(path.name for path in model_dir.iterdir())
        streams = {"stdout": done.stdout.decode(), "stderr": done.stderr.decode()}
        (folder / "process.json").write_text(json.dumps({"files": files, **streams}))

    folder = shared("trained", make)
    about = json.loads((folder / "process.json").read_text())
    return types.SimpleNamespace(model_dir=folder / "runs with a space" / "small", **about)


@pytest.fixture(scope="session")
def trained(train_process):
    """The model_dir of a small LSTM run."""
    return train_process.model_dir


@pytest.fixture(scope="session")
def exported(shared, trained, run):
    """The folder of a SavedModel of that run, in place of an earlier export."""

    def make(folder):
        for _ in range(2):
            done = run("export", f"--model_dir={trained}", f"--export_dir={folder / 'here'}")
            assert (done.returncode, done.stderr) == (0, b"")
        assert {path.name for path in folder.iterdir()} == {"here"}

    return shared("exports", make) / "here"


@pytest.fixture(scope="session")
def trained_with_ngrams(shared, run, flags):
    """The model_dir of a run with n-grams and an LSTM, and punctuation among the tokens."""
    settings = ["--ngrams=2", "--punctuation=keep", "--checkpoint_every=1000", "--epochs=1"]

    def make(folder):
        done = run("train", f"--model_dir={folder}", *flags, *settings)
        assert done.returncode == 0, done.stderr.decode()

    return shared("trained_with_ngrams", make)


@pytest.fixture(scope="session")
def uninterrupted(shared, small_config, splits, tmp_path_factory):
    """The folder of a finished training loop on `splits` that was not interrupted.

    Each process has a copy, because a loop that opens the folder writes to it.
    """
    from tests.helpers import make_small_loop

    folder = shared(
        "uninterrupted", lambda folder: make_small_loop(small_config, splits, folder).fit()
    )
    return shutil.copytree(folder, tmp_path_factory.mktemp("uninterrupted") / "run")


@pytest.fixture(scope="module")
def small_ngram_tables():
    """Makes the tables of n-grams small, for tests of something else than the tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.ngrams._MAX_BITS", 18)
        yield


@pytest.fixture
def project_log(caplog, monkeypatch):
    """The messages that the project logs."""
    for name in ("trainer", "pipeline"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    return caplog
