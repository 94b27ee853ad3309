"""What the bits of a run depend on beside settings and data: recorded, kept, warned about."""

import dataclasses
import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from pipeline.errors import RunError
from tests.conftest import ROOT
from trainer.artifacts.run_record import RunRecord
from trainer.artifacts.trained_run import load
from trainer.config import TrainConfig
from trainer.data import open_corpus
from trainer.preparation import prepare_run
from trainer.runtime import devices, processor

WITHOUT_THREADS = {k: v for k, v in os.environ.items() if k != "TF_NUM_INTRAOP_THREADS"}


@pytest.fixture
def config(small_config):
    return dataclasses.replace(small_config, batch_size=64, epochs=1)


@pytest.fixture
def go_on(config, tmp_path, monkeypatch):
    """Makes the run on a machine of so many cores: go_on(cores), go_on(cores, config=other)."""

    def go_on(cores, config=config):
        monkeypatch.setattr(processor, "cores", lambda: cores)
        record = RunRecord.read(tmp_path)
        data = open_corpus(config)
        return prepare_run(config, data, tmp_path, record=record)

    return go_on


def branches_of(trainer):
    return len(trainer.state.model.split_batch(np.zeros([64, 1], np.int32)))


def warnings_of(caplog):
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def change(tmp_path, **values):
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["versions"] |= values.pop("versions", {})
    content |= values
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.fixture
def begun(go_on, config, tmp_path):
    """The folder of a run that has one of two epochs behind it, on a machine of 4 cores."""
    go_on(4).fit(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["branches"] == 4
    return dataclasses.replace(config, epochs=2)


@pytest.mark.parametrize("cores", [1, 2])
def test_a_run_keeps_its_parts_of_a_batch_on_another_machine(begun, go_on, tmp_path, caplog, cores):
    resumed = go_on(cores, begun)
    assert branches_of(resumed) == 4
    (warning,) = warnings_of(caplog)
    assert f"4 parts of a batch there, which are kept; {cores} would suit the cores" in warning
    resumed.fit(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["branches"] == 4


def test_what_has_changed_is_named_in_one_warning(begun, go_on, tmp_path, caplog):
    change(tmp_path, processor="An Old One", versions={"keras": "3.9.0"})
    go_on(2, begun)
    (warning,) = warnings_of(caplog)
    for part in ("processor An Old One there", "keras 3.9.0 there", "4 parts of a batch there"):
        assert part in warning


def test_nothing_is_said_where_nothing_has_changed_or_nothing_is_recorded(
    begun, go_on, tmp_path, caplog
):
    go_on(4, begun)
    change(tmp_path, processor=None, branches=None)  # as an older version wrote it
    assert branches_of(go_on(2, begun)) == 2
    assert warnings_of(caplog) == []


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("value", [0, -1, "2", 1.5, True])
def test_a_number_of_parts_that_is_none_is_damage(tmp_path, value):
    change(tmp_path, branches=value)
    with pytest.raises(RunError, match=r"config\.json is damaged .*branches"):
        RunRecord.read(tmp_path)


@pytest.mark.usefixtures("begun")
def test_any_number_of_parts_answers_alike(tmp_path, monkeypatch):
    """A run is evaluated with what the machine has."""
    answers = []
    for cores in (1, 2, 4):
        monkeypatch.setattr(processor, "cores", lambda cores=cores: cores)
        answers.append(load(tmp_path).predict([b"A good film.", b"", b"bad " * 50]))
    np.testing.assert_allclose(answers[1:], [answers[0]] * 2, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "cores", "parts"),
    [(16, 8, 2), (64, 2, 2), (64, 4, 4), (64, 16, 8), (64, 1, 1), (8, 4, 1)],
)
def test_parts_of_a_batch_are_as_many_as_cores_and_not_tiny(monkeypatch, size, cores, parts):
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
devices.set_threads(16, warns=False)
devices.set_threads(16)
"""


def test_an_operation_has_the_cores_that_parts_of_a_batch_leave():
    """And it is said when TensorFlow is initialized already, with another number."""
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
def test_python_and_the_command_train_to_the_same_bits(run, small_config, tmp_path, batch_size):
    settings = {**dataclasses.asdict(small_config), "batch_size": batch_size, "ngrams": 2}
    command = [sys.executable, "-c", FROM_PYTHON, json.dumps(settings), str(tmp_path / "python")]
    about = {"cwd": ROOT, "env": WITHOUT_THREADS, "check": True, "stdout": subprocess.PIPE}
    threads = int(subprocess.run(command, **about).stdout)
    cores = processor.cores()
    assert threads == max(1, cores // max(1, min(cores, batch_size // 8)))
    is_flag = {f.name for f in dataclasses.fields(TrainConfig) if f.metadata["is_flag"]}
    flags = [f"--{name}={value}" for name, value in settings.items() if name in is_flag]
    done = run("train", f"--model_dir={tmp_path / 'command'}", *flags, env=WITHOUT_THREADS)
    assert done.returncode == 0, done.stderr.decode()
    histories = [(tmp_path / name / "history.csv").read_text() for name in ("python", "command")]
    assert histories[0] == histories[1]
