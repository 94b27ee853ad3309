"""Chooses devices, threads and precision for this machine."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainer.runtime import processor

_log = logging.getLogger(__name__)

_MIN_BRANCH_SIZE = 8  # examples; smaller branches cost more time than they save
_THREADS_VARIABLE = "TF_NUM_INTRAOP_THREADS"  # an environment variable of TensorFlow
_TENSOR_CORES = (7, 0)  # the first compute capability with tensor cores for float16

# TensorFlow counts the graphs of all runs in a process as one function that is traced too often.
tf.get_logger().addFilter(lambda record: "triggered tf.function retracing" not in str(record.msg))


def choose_precision(setting: str) -> str:
    """Returns the Keras dtype policy for the setting `precision` on this machine.

    `auto` is mixed_float16 if the first GPU has tensor cores, otherwise float32, because
    mixed_float16 is many times slower on CPUs.
    """
    if setting != "auto":
        return setting
    details = _gpu_details()
    has_tensor_cores = details.get("compute_capability", (0, 0)) >= _TENSOR_CORES
    return "mixed_float16" if has_tensor_cores else "float32"


def warn_of_precision(setting: str, recorded: str, model_dir: Path) -> None:
    """Warns if the recorded precision of a run is not the one that this machine would choose."""
    usual = choose_precision(setting)
    if recorded != usual:
        _log.warning(
            "%s was trained with precision %s and keeps it; this machine would choose %s",
            model_dir,
            recorded,
            usual,
        )


def choose_branches(batch_size: int) -> int:
    """Returns the number of branches into which the model splits a batch: one per core, 1 on a GPU.

    Each branch computes at least 8 examples. Logical CPUs divide the cores among them. Does not
    initialize TensorFlow.
    """
    if tf.config.get_visible_devices("GPU"):
        return 1
    cores = processor.cores() // _count_cpu_devices()
    return max(1, min(cores, batch_size // _MIN_BRANCH_SIZE))


def set_threads(batch_size: int, branches: int | None = None, *, warn: bool = True) -> None:
    """Sets the number of threads per operation. Call it before TensorFlow is used.

    Branches run in parallel, and more threads than cores only wait for each other. So the threads
    per operation are the cores per branch. The last bits of results depend on this number. The
    environment variable TF_NUM_INTRAOP_THREADS takes precedence. If `warn`, a warning is logged if
    TensorFlow is already initialized with another number.
    """
    if os.environ.get(_THREADS_VARIABLE):
        return
    cores = processor.cores()
    branches = branches or choose_branches(batch_size)
    threads = max(1, cores // (_count_cpu_devices() * branches))
    try:
        if cores < processor.affinity():  # TensorFlow ignores CPU quotas
            tf.config.threading.set_inter_op_parallelism_threads(cores)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:  # TensorFlow is initialized
        current = tf.config.threading.get_intra_op_parallelism_threads() or processor.affinity()
        if warn and current != threads:
            _log.warning(
                "TensorFlow is already initialized with %d threads per operation instead of %d: "
                "steps may be slower, and the last bits of results differ from those of "
                "scripts.train; train before any other use of TensorFlow, or set %s=%d",
                current,
                threads,
                _THREADS_VARIABLE,
                threads,
            )


def describe() -> str:
    """Returns the names of TensorFlow's devices, such as `CPU` or `1 GPU (NVIDIA H100)`."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    return f"{len(gpus)} GPU ({_gpu_details().get('device_name', 'unknown')})"


def _gpu_details() -> dict[str, Any]:
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]) if gpus else {}


def _count_cpu_devices() -> int:
    """Counts TensorFlow's logical CPUs, also before TensorFlow is initialized."""
    physical = tf.config.get_visible_devices("CPU")
    logical = [tf.config.get_logical_device_configuration(device) for device in physical]
    return max(1, sum(len(devices or [None]) for devices in logical))
