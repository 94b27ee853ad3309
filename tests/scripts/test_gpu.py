"""Tests that need a GPU: .venv/bin/pytest -m gpu. Without a GPU most of them are skipped.

Commands run in separate processes, because this process sees no GPU (conftest.py).
"""

import json
import os
import subprocess
import sys

import pytest

from tests.small import ROOT

pytestmark = pytest.mark.gpu

# Enough data and epochs to show whether a precision learns, in minutes on any GPU.
SETTINGS = {
    "dataset": "imdb_offline",
    "vocab_size": 10_000,
    "sequence_length": 200,
    "embedding_dim": 64,
    "batch_size": 64,
    "epochs": 2,
    "seed": 0,
}
NOISE = 0.015  # of accuracy, between runs that differ only in rounding

LIST_GPUS = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"


@pytest.fixture(scope="module")
def environment():
    """The environment variables of a process that sees the GPUs; skips without a GPU."""
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-c", LIST_GPUS]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    if int(done.stdout.split()[-1]) == 0:
        pytest.skip("TensorFlow sees no GPU here")
    return environment


@pytest.fixture(params=[pytest.param("cpu", marks=pytest.mark.slow), "gpu"])
def any_environment(request):
    """The environment of a process with a CPU alone, and of one that sees the GPUs.

    CI runs the first, so that the programs below stay up to date with the code.
    """
    if request.param == "cpu":
        return {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    return request.getfixturevalue("environment")


@pytest.fixture(scope="module")
def full_data_dir(tmp_path_factory):
    """A TFDS folder with the whole imdb_offline."""
    from pipeline.named_dataset.dataset import open_dataset

    folder = tmp_path_factory.mktemp("full")
    open_dataset("imdb_offline", data_dir=str(folder), download=True)
    return folder


@pytest.fixture(scope="module")
def train(run_process, environment, full_data_dir, tmp_path_factory):
    """Trains in a process: train(setting=...) returns model_dir, results and stderr."""
    cache_dir = tmp_path_factory.mktemp("cache")

    def train(model_dir=None, env=None, **settings):
        model_dir = model_dir or tmp_path_factory.mktemp("gpu") / "run"
        all_settings = {**SETTINGS, "data_dir": full_data_dir, "cache_dir": cache_dir, **settings}
        flags = [f"--{name}={value}" for name, value in all_settings.items()]
        flags += [f"--model_dir={model_dir}", "--format=json"]
        done = run_process("train", *flags, env=env or environment)
        assert done.returncode == 0, done.stderr.decode()
        return model_dir, json.loads(done.stdout), done.stderr.decode()

    return train


@pytest.fixture(scope="module")
def float32(train):
    return train(precision="float32")


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_as_accurate_as_float32(train, float32, precision):
    _, expected, _ = float32
    _, results, stderr = train(precision=precision)
    assert precision in stderr
    assert results["accuracy"] == pytest.approx(expected["accuracy"], abs=NOISE)
    assert expected["accuracy"] > 0.8


def test_the_lstm_uses_cudnn(train):
    model_dir, _, _ = train(max_steps=30, profile_steps="20,25")
    (profile,) = model_dir.glob("train/plugins/profile/*/*.xplane.pb")
    assert b"cudnn" in profile.read_bytes().lower()


def test_gradients_of_an_lstm_are_those_of_a_cpu(any_environment):
    """In bfloat16, TensorFlow's gradients of cuDNN's LSTM are zero."""
    program = """
import keras, numpy as np, tensorflow as tf
from model.lstm import run_lstm, without_cudnn
tf.config.experimental.enable_tensor_float_32_execution(False)
lstm = keras.layers.LSTM(16, return_sequences=True)
lstm.build((None, None, 8))
sequences = tf.random.stateless_normal([30, 4, 8], seed=(0, 0))
def gradients(dtype):
    with tf.GradientTape() as tape:
        tape.watch(sequences)
        outputs = run_lstm(lstm, tf.cast(sequences, dtype))
        loss = tf.reduce_sum(tf.cast(outputs[-1], tf.float32))
    return [outputs, *tape.gradient(loss, [sequences, *lstm.trainable_variables])]
with tf.device("CPU"), without_cudnn():
    expected = gradients("float32")
for dtype, tolerance in ("float32", 1e-5), ("float16", 5e-3), ("bfloat16", 3e-2):
    for got, true in zip(gradients(dtype), expected, strict=True):
        error = np.linalg.norm(np.float32(got) - true) / np.linalg.norm(true)
        assert error < tolerance, (dtype, error)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=any_environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_the_loss_scale_recovers_from_overflow(any_environment):
    """It starts at a scale at which every gradient overflows."""
    program = """
import tensorflow as tf
from trainer.building import build_model, build_optimizer
from trainer.config import TrainConfig
from trainer.objectives.classification import Classification
from trainer.runtime.replicas import one_replica
config = TrainConfig(units=8, embedding_dim=8, batch_size=4)
model = build_model(config, 50, 2, "mixed_float16")
optimizer = build_optimizer(config, model, 100)
optimizer.dynamic_scale.assign(2.0**40)
objective, scales = Classification(model, one_replica()), []
token_ids, labels = tf.constant([[2, 3], [4, 5], [6, 7], [8, 9]]), tf.constant([0, 1, 1, 0])
for step in range(60):
    with tf.GradientTape() as tape:
        losses, _ = objective.losses(token_ids, labels, tf.zeros([len(labels), 0]))
        loss = optimizer.scale_loss(tf.reduce_mean(losses))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply([tf.convert_to_tensor(g) for g in gradients], model.trainable_variables)
    scales.append(float(optimizer.dynamic_scale))
assert int(optimizer.iterations) >= 20, scales
assert all(bool(tf.reduce_all(tf.math.is_finite(w))) for w in model.trainable_variables)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=any_environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_a_gpu_run_resumes_on_a_cpu(train, environment):
    model_dir, started, _ = train(precision="float32", epochs=1)
    no_gpu = {**environment, "CUDA_VISIBLE_DEVICES": "-1"}
    _, results, stderr = train(model_dir=model_dir, env=no_gpu, precision="float32", epochs=2)
    assert "resuming at step" in stderr
    assert results["epochs"] == 2
    assert results["accuracy"] > started["accuracy"] - NOISE
