"""A full disk, too little memory and a lost process, by TensorFlow's messages."""

import contextlib
import errno
import os
import types

import keras
import pytest
import tensorflow as tf

from pipeline.errors import RunError
from trainer.runtime.files import translate_disk_full
from trainer.runtime.replicas import one_replica, seeds_of
from trainer.step import translate_memory_errors

FULL = [
    f"/runs/a/ckpt-1.data; {os.strerror(errno.ENOSPC)}",
    f"/runs/a/ckpt-1.data; {os.strerror(errno.EDQUOT)}",
]
NO_MEMORY = [
    "OOM when allocating tensor with shape[64,500,512] and type float on /device:GPU:0",
    "failed to allocate memory",
    "Out of memory while trying to allocate 8589934592 bytes.",
]
OTHER = [f"/data/a; {os.strerror(errno.EMFILE)}", "a quota of requests is exhausted"]


def exhausted(message):
    return tf.errors.ResourceExhaustedError(None, None, message)


@pytest.mark.parametrize("message", FULL)
def test_disk_full_errors_are_translated(tmp_path, message):
    with pytest.raises(RunError, match="the disk is full"), translate_disk_full("a file", tmp_path):
        raise exhausted(message)


@pytest.mark.parametrize("message", NO_MEMORY + OTHER)
def test_other_errors_are_not_translated_to_a_full_disk(tmp_path, message):
    error = exhausted(message)
    with (
        pytest.raises(tf.errors.ResourceExhaustedError) as caught,
        translate_disk_full("a", tmp_path),
    ):
        raise error
    assert caught.value is error


@pytest.fixture(params=[False, True], ids=["alone", "in a cluster"])
def training(request, small_config):
    """The error handling of TrainingLoop.fit, and the replicas."""
    replicas = one_replica()
    replicas.is_cluster = request.param

    @contextlib.contextmanager
    def translate():
        with replicas.translate_lost_worker(), translate_memory_errors(small_config):
            yield

    return types.SimpleNamespace(translate=translate, replicas=replicas)


@pytest.mark.parametrize(
    "error",
    [
        *map(exhausted, NO_MEMORY),
        MemoryError(),
        tf.errors.InternalError(None, None, "CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_out_of_memory_names_the_settings_to_lower(training, error):
    message = "not enough memory for batch_size=16 and sequence_length=40"
    with pytest.raises(RunError, match=message), training.translate():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        *map(exhausted, OTHER),
        tf.errors.InvalidArgumentError(None, None, "indices[0,1] = 9 is not in [0, 9)"),
        tf.errors.InternalError(None, None, "cuDNN failed"),
        tf.errors.DataLossError(None, None, "corrupted record"),
        tf.errors.NotFoundError(None, None, "no such file"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_pass_unchanged(training, error):
    """Even in a cluster, they are not reported as a lost worker."""
    with pytest.raises(tf.errors.OpError) as caught, training.translate():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("kind", ["Unavailable", "Aborted", "Cancelled", "DeadlineExceeded"])
def test_connection_errors_mean_a_lost_worker_only_in_a_cluster(training, kind):
    error = getattr(tf.errors, f"{kind}Error")(None, None, "connection reset\nmore")
    with (
        pytest.raises((RunError, tf.errors.OpError)) as caught,
        training.translate(),
    ):
        raise error
    if training.replicas.is_cluster:
        assert "another worker of the run has ended" in str(caught.value)
        assert "\n" not in str(caught.value)
    else:
        assert caught.value is error


def test_the_seeds_of_a_model_are_those_of_its_dropout_layers():
    layers = [keras.layers.Dropout(0.5), keras.layers.Dense(2), keras.layers.Dropout(0.1)]
    model = keras.Sequential([keras.Input([3]), *layers])
    seeds = [layer.seed_generator.state for layer in (layers[0], layers[2])]
    assert [id(seed) for seed in seeds_of(model)] == [id(seed) for seed in seeds]


def test_keras_optimizers_have_the_method_that_is_replaced():
    assert callable(getattr(keras.optimizers.Optimizer, "_all_reduce_sum_gradients", None))
