"""Training with too little memory."""

import subprocess
import sys

import pytest

from tests.small import ROOT

TRAIN_WITH_LITTLE_MEMORY = """
import re, resource, runpy, sys
import tensorflow as tf
import trainer.loop

fit = trainer.loop.TrainingLoop.fit

def fit_in_100_megabytes(trainer, *arguments, **options):
    # Before the limit, to trace the step.
    batch = tf.ones([2, 8], tf.int32), tf.ones([2], tf.int32), tf.zeros([2, 0])
    trainer.train_step.run(iter(tf.data.Dataset.from_tensors(batch)), 1)
    trainer.state.step.assign(0)
    used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
    return fit(trainer, *arguments, **options)

trainer.loop.TrainingLoop.fit = fit_in_100_megabytes
runpy.run_module("scripts.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads its memory from /proc")
@pytest.mark.slow
def test_out_of_memory_ends_the_command_with_the_settings_to_lower(flags, tmp_path):
    settings = ["--batch_size=320", "--embedding_dim=4096", "--sequence_length=500"]
    model_dir = f"--model_dir={tmp_path / 'run'}"
    command = [sys.executable, "-c", TRAIN_WITH_LITTLE_MEMORY, model_dir, *flags, *settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    last_line = done.stderr.splitlines()[-1]
    assert "not enough memory for --batch_size=320 and --sequence_length=500" in last_line
    assert len(list(tmp_path.glob("run/checkpoints/*.index"))) == 1
