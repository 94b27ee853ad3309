"""The environment of a run is recorded, and changes of it are logged."""

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pipeline.errors import RunError
from tests.small import ROOT
from trainer.artifacts.run_record import RunRecord
from trainer.artifacts.trained_run import load
from trainer.data import open_corpus
from trainer.preparation import prepare_run
from trainer.runtime import devices, processor

WITHOUT_THREADS = {k: v for k, v in os.environ.items() if k != "TF_NUM_INTRAOP_THREADS"}


@pytest.fixture(scope="module")
def config(small_config):
    return dataclasses.replace(small_config, batch_size=64, epochs=1, encoder="pooled_lstm")


def prepare(config, folder, *, cores):
    """Makes the training loop of a run, new or resumed, on a machine with that many cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processor, "cores", lambda: cores)
        return prepare_run(config, open_corpus(config), folder, record=RunRecord.read(folder))


def branches_of(loop):
    return loop.state.model._branches


def warnings_of(caplog):
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def change(tmp_path, **values):
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["versions"] |= values.pop("versions", {})
    content |= values
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.fixture(scope="module")
def one_epoch(config, tmp_path_factory):
    """The folder of a run of one epoch, on a machine with 4 cores."""
    folder = tmp_path_factory.mktemp("one_epoch")
    prepare(config, folder, cores=4).fit()
    assert json.loads((folder / "config.json").read_text())["branches"] == 4
    return folder


@pytest.fixture
def resume(one_epoch, config, tmp_path):
    """Resumes a copy of that run in tmp_path, for a second epoch: resume(cores)."""
    shutil.copytree(one_epoch, tmp_path, dirs_exist_ok=True)
    longer = dataclasses.replace(config, epochs=2)
    return lambda cores: prepare(longer, tmp_path, cores=cores)


@pytest.mark.slow
@pytest.mark.parametrize("cores", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_keeps_its_branches_on_another_machine(resume, tmp_path, caplog, cores):
    resumed = resume(cores)
    assert branches_of(resumed) == 4
    (warning,) = warnings_of(caplog)
    assert f"4 branches per batch, which are kept; {cores} would suit the cores" in warning
    resumed.fit()
    assert json.loads((tmp_path / "config.json").read_text())["branches"] == 4


def test_changes_of_the_environment_are_named_in_one_warning(resume, tmp_path, caplog):
    change(tmp_path, processor="An Old One", versions={"keras": "3.9.0"})
    resume(2)
    (warning,) = warnings_of(caplog)
    for value in ("processor An Old One there", "keras 3.9.0 there", "4 branches per batch"):
        assert value in warning


def test_no_warning_without_changes_or_without_a_record(resume, tmp_path, caplog):
    resume(4)
    change(tmp_path, processor=None, branches=None)  # as an older version wrote it
    assert branches_of(resume(2)) == 2
    assert warnings_of(caplog) == []


@pytest.mark.usefixtures("resume")
@pytest.mark.parametrize("value", [0, -1, "2", 1.5, True])
def test_an_invalid_number_of_branches_is_a_damaged_config(tmp_path, value):
    change(tmp_path, branches=value)
    with pytest.raises(RunError, match=r"config\.json is damaged .*branches"):
        RunRecord.read(tmp_path)


def test_any_number_of_branches_gives_the_same_probabilities(one_epoch, monkeypatch):
    """predict uses the cores of its machine, whatever the run used."""
    probabilities = []
    for cores in (1, 2, 4):
        monkeypatch.setattr(processor, "cores", lambda cores=cores: cores)
        probabilities.append(load(one_epoch).predict([b"A good film.", b"", b"bad " * 50]))
    np.testing.assert_allclose(probabilities[1:], [probabilities[0]] * 2, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "cores", "parts"),
    [(16, 8, 2), (64, 2, 2), (64, 4, 4), (64, 16, 8), (64, 1, 1), (8, 4, 1)],
)
def test_branches_are_limited_by_cores_and_batch_size(monkeypatch, size, cores, parts):
    monkeypatch.setattr(processor, "cores", lambda: cores)
    assert devices.choose_branches(size) == parts


THREADS = """
import logging, sys
import tensorflow as tf
from trainer.runtime import devices
from trainer.runtime import processor
logging.basicConfig(stream=sys.stdout, format="%(message)s")
processor.cores, processor.affinity = lambda: 8, lambda: 16
threads = tf.config.threading
for size, parts in ((64, None), (16, None), (64, 8), (64, 1), (8, 3), (32, None)):
    devices.set_threads(size, parts)
    print(size, parts, threads.get_intra_op_parallelism_threads())
print(threads.get_inter_op_parallelism_threads())
tf.constant(1.0) + 1
devices.set_threads(32)
devices.set_threads(16, warn=False)
devices.set_threads(16)
"""


@pytest.mark.slow
def test_threads_per_operation_are_the_cores_per_branch():
    """A warning is logged if TensorFlow is already initialized with another number."""
    command = [sys.executable, "-c", THREADS]
    about = {"cwd": ROOT, "env": WITHOUT_THREADS, "check": True, "stdout": subprocess.PIPE}
    *lines, late = subprocess.run(command, **about).stdout.decode().splitlines()
    assert lines == ["64 None 1", "16 None 4", "64 8 1", "64 1 8", "8 3 2", "32 None 2", "8"]
    assert late.startswith("TensorFlow is already initialized with 2 threads per operation ")
    assert late.endswith("or set TF_NUM_INTRAOP_THREADS=4")


FROM_PYTHON = """
import json, sys
from pathlib import Path
from trainer.config import TrainConfig
from trainer.run import train
from trainer.runtime.signals import StopSignals
train(TrainConfig(**json.loads(sys.argv[1])), Path(sys.argv[2]))
import tensorflow as tf
print(tf.config.threading.get_intra_op_parallelism_threads())
"""


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [16, 64])
def test_python_and_the_command_train_to_the_same_bits(
    run_process, small_config, tmp_path, batch_size
):
    settings = {**dataclasses.asdict(small_config), "batch_size": batch_size, "ngrams": 2}
    command = [sys.executable, "-c", FROM_PYTHON, json.dumps(settings), str(tmp_path / "python")]
    about = {"cwd": ROOT, "env": WITHOUT_THREADS, "check": True, "stdout": subprocess.PIPE}
    threads = int(subprocess.run(command, **about).stdout)
    cores = processor.cores()
    assert threads == max(1, cores // max(1, min(cores, batch_size // 8)))
    flags = [f"--{name}={value}" for name, value in settings.items()]
    done = run_process("train", f"--model_dir={tmp_path / 'command'}", *flags, env=WITHOUT_THREADS)
    assert done.returncode == 0, done.stderr.decode()
    histories = [(tmp_path / name / "history.csv").read_text() for name in ("python", "command")]
    assert histories[0] == histories[1]
