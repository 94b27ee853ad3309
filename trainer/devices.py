"""Where a run computes: accelerators, cores, the precision policy."""

from __future__ import annotations

import os

import keras
import tensorflow as tf

_SMALLEST_PART = 16  # reviews
_TENSOR_CORES = (7, 0)  # the first compute capability whose float16 products are the faster ones


def precision(setting: str) -> str:
    """Says which of Keras' policies a setting stands for on this machine.

    Args:
        setting: `auto`, or the name of a policy. `auto` is mixed_float16 where the first GPU has
            tensor cores and float32 elsewhere: on CPUs mixed_float16 is many times slower.
    """
    if setting != "auto":
        return setting
    return "mixed_float16" if _has_tensorcores() else "float32"


def policy(precision: str) -> keras.DTypePolicy:
    """Makes a Keras policy; float32 is meant, so TensorFloat-32 is off under it."""
    tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")
    return keras.DTypePolicy(precision)


def branches(batch_size: int) -> int:
    """Says into how many parts a batch is cut so that each core of a CPU has one; 1 on a GPU.

    Where TensorFlow was told to see several CPUs, their replicas share the cores.

    Args:
        batch_size: Reviews a step; a part of fewer than 16 is not worth a core.
    """
    if tf.config.list_logical_devices("GPU"):
        return 1
    cpus = len(tf.config.list_logical_devices("CPU"))
    return max(1, min(cores() // cpus, batch_size // _SMALLEST_PART))


def describe() -> str:
    """Names the devices that TensorFlow sees, such as `CPU` or `1 GPU (NVIDIA H100)`."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "unknown")
    return f"{len(gpus)} GPU ({name})"


def _has_tensorcores() -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return False
    details = tf.config.experimental.get_device_details(gpus[0])
    return details.get("compute_capability", (0, 0)) >= _TENSOR_CORES


def cores() -> int:
    """Counts the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
