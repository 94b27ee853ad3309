"""Where a run computes: accelerators, cores and threads, the precision policy."""

from __future__ import annotations

import logging
import os

import keras
import tensorflow as tf

from trainer.runtime import processor

_log = logging.getLogger(__name__)

_SMALLEST_PART = 8  # reviews; parts half as large take longer than they save
_THREADS = "TF_NUM_INTRAOP_THREADS"  # TensorFlow's own variable
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


def resolve_precision(setting: str, recorded: str, run: str) -> str:
    """Returns the policy of an existing run, with a warning if this machine would choose another.

    Args:
        setting: As for `precision`.
        recorded: The policy that the run began with.
        run: What the warning calls the run.
    """
    if recorded != precision(setting):
        _log.warning(
            "%s was trained in %s and is computed in it here as well, where %s is usual",
            run,
            recorded,
            precision(setting),
        )
    return recorded


def policy(precision: str) -> keras.DTypePolicy:
    """Makes a Keras policy; float32 is meant, so TensorFloat-32 is off under it."""
    tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")
    return keras.DTypePolicy(precision)


def branches(batch_size: int) -> int:
    """Returns into how many parts a batch is cut: one for each core of a CPU; 1 on a GPU.

    If TensorFlow was configured to have several CPUs, their replicas share the cores. This does not
    initialize TensorFlow.

    Args:
        batch_size: Examples a step; a part of fewer than 8 is not worth a core.
    """
    if tf.config.get_visible_devices("GPU"):
        return 1
    return max(1, min(processor.cores() // _cpus(), batch_size // _SMALLEST_PART))


def set_threads(batch_size: int, parts: int | None = None, *, warns: bool = True) -> None:
    """Sets how many threads compute one operation; call it before TensorFlow is used.

    Each part of a batch keeps a core busy, and threads beyond the number of cores only wait for
    each other. So an operation gets as many threads as there are cores per part: one if there are
    as many parts as cores, all if a batch is too small to be cut. The last bits of results depend
    on the number. The environment variable TF_NUM_INTRAOP_THREADS takes precedence.

    Args:
        batch_size: Examples a step.
        parts: Into how many parts a batch is cut; None: as many as `branches` returns.
        warns: Whether to log a warning when TensorFlow is initialized with another number already.
    """
    if os.environ.get(_THREADS):
        return
    cores = processor.cores()
    threads = max(1, cores // (_cpus() * (parts or branches(batch_size))))
    try:
        if cores < processor.affinity():  # TensorFlow ignores quotas
            tf.config.threading.set_inter_op_parallelism_threads(cores)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        found = tf.config.threading.get_intra_op_parallelism_threads() or processor.affinity()
        if warns and found != threads:
            _log.warning(
                "TensorFlow is initialized already, with %d threads for an operation where %d are "
                "usual here: steps may be slower, and results differ in the last bits from those "
                "of scripts.train; train before other use of TensorFlow, or set %s=%d",
                found,
                threads,
                _THREADS,
                threads,
            )


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


def _cpus() -> int:
    """Counts the CPUs that TensorFlow has, or will have when it is initialized."""
    physical = tf.config.get_visible_devices("CPU")
    logical = [tf.config.get_logical_device_configuration(device) for device in physical]
    return max(1, sum(len(devices or [None]) for devices in logical))
