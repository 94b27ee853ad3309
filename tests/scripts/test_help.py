"""--help of all commands."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small import ROOT
from trainer.config import TrainConfig


@pytest.mark.parametrize(
    "script", ["train", "evaluate", "predict", "export", "runs", "dev.benchmark", "dev.compare"]
)
def test_help_is_short_and_does_not_import_tensorflow(run_process, script):
    done = run_process(script, "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"python -m scripts.{script}" in done.stdout.decode()
    takes_run = script in ("train", "evaluate", "predict", "export")
    assert ("--model_dir=" in done.stdout.decode()) == takes_run
    program = f"import sys, scripts.{script}; print('tensorflow' in sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT)
    assert loaded.strip() == b"False"


def test_help_of_train_has_all_settings_in_groups(start_process, run):
    text = run("train", "--help").stdout.decode()
    for field in dataclasses.fields(TrainConfig):
        assert f"  --{field.name}=" in text
    assert text.index("training:") < text.index("--batch_size") < text.index("devices:")
    assert max(map(len, text.splitlines())) <= 100
    reading, writing = os.pipe()
    os.close(reading)
    process = start_process("train", "--help", stdout=writing)
    os.close(writing)
    assert (process.communicate()[1], process.returncode) == (b"", 0)


def test_help_that_cannot_be_written_is_one_line(start_process):
    with Path("/dev/full").open("wb") as full:
        process = start_process("predict", "--help", stdout=full)
        err = process.communicate()[1]
    assert (process.returncode, err) == (2, b"error: writing: No space left on device\n")


def test_the_help_of_all_flags_is_no_error(run_process):
    done = run_process("predict", "--helpfull")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "--pdb" in done.stdout.decode()
