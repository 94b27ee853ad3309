"""Data-parallel training with tf.distribute: one replica of the model per device.

A run in a cluster has several workers. Each worker is a process with the replicas of its own
devices. Worker 0 is the chief.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.errors import RunError, UserError
from trainer.runtime.cluster import is_configured, read_cluster
from trainer.runtime.signals import Interrupted, Stop, current_stop, use_stop

_log = logging.getLogger(__name__)

_SEED_STRIDE = 1_000_003  # the difference between the seeds of two replicas
_FAILED = 1000  # the status of a failed worker; larger than any signal number
_LOST_WORKER_ERRORS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)


class Replicas:
    """The replicas of a model, one per device, in all workers of a run.

    Each replica computes its shard of every batch. Gradients are summed over all replicas, so that
    every replica has the same weights.

    Attributes:
        strategy: The tf.distribute strategy.
        count: Number of replicas in all workers.
        local: The ids of the replicas in this worker.
        is_cluster: Whether there may be other workers.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        self.count = strategy.num_replicas_in_sync
        self.is_cluster = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        local = 1 if self.count == 1 else len(strategy.extended.worker_devices)
        first = local * (read_cluster().index if self.is_cluster else 0)
        self.local = range(first, first + local)
        self._worker, self._num_workers = first // local, self.count // local

    @property
    def is_chief(self) -> bool:
        """Returns whether this worker is the chief, the only one that writes to model_dir."""
        return self.local.start == 0

    def run(self, compute: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 as Strategy.run
        """Calls a function in each replica of this worker and returns the per-replica results."""
        return self.strategy.run(compute, args=arguments)

    # Called in a replica, that is, in a function that `run` calls.

    def replica_id(self) -> tf.Tensor:
        """Returns the id of the current replica <int64>[], from 0 to `count` - 1."""
        if self.count == 1:
            return tf.constant(0, tf.int64)
        return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)

    def shard(self, batch: tf.Tensor) -> tf.Tensor:
        """Returns the current replica's shard of the worker's batch [B, ...]."""
        if len(self.local) == 1:
            return batch
        index = tf.cast(self.replica_id(), tf.int32) - self.local.start
        size = tf.shape(batch)[0] // len(self.local)
        return batch[index * size : (index + 1) * size]

    def all_reduce_sum(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the sums of tensors over all replicas."""
        if self.count == 1:
            return tensors
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)

    # Called outside the replicas, with the per-replica results of `run`.

    def first_local(self, per_replica: Any) -> tf.Tensor:  # noqa: ANN401 a tensor or a PerReplica
        """Returns the result of this worker's first replica."""
        return self.strategy.experimental_local_results(per_replica)[0]

    def gather(self, per_replica: Any) -> tf.Tensor:  # noqa: ANN401 a tensor or a PerReplica
        """Returns the results [B, ...] of all replicas, concatenated along the first axis."""
        if self.count == 1:
            return per_replica
        shape = [None, *self.first_local(per_replica).shape[1:]]  # Strategy.gather loses it
        return tf.ensure_shape(self.strategy.gather(per_replica, axis=0), shape)

    def offset_replica_seeds(self, model: keras.Model) -> None:
        """Gives each replica different random numbers, such as dropout masks.

        Keras creates and restores the same seeds in all replicas. The seeds of replica 0, which
        checkpoints contain, do not change.
        """
        if self.count == 1:
            return
        seeds = seeds_of(model)

        def add_offset() -> None:
            offset = tf.stack([self.replica_id() * _SEED_STRIDE, 0])
            for seed in seeds:
                seed.assign(seed.value + tf.cast(offset, seed.value.dtype))

        self.strategy.run(tf.function(add_offset))

    def all_gather(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns the numbers <int32>[W, N] of all W workers; waits for all of them."""
        rows = np.zeros([self._num_workers, len(numbers)], np.int32)
        rows[self._worker] = numbers
        return np.asarray(self._sum_over_workers(tf.constant(rows)))

    def barrier(self) -> None:
        """Waits until all workers have reached this call."""
        self.all_gather([0])

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def _sum_over_workers(self, numbers: tf.Tensor) -> tf.Tensor:
        # identity: all_reduce needs a tensor on the replica's device, not a captured constant.
        sums = self.strategy.run(lambda: self.all_reduce_sum([tf.identity(numbers)])[0])
        return self.first_local(sums) // len(self.local)  # each local replica added the numbers

    @contextlib.contextmanager
    def fail_together(self) -> Iterator[None]:
        """After the block, waits for all workers.

        Raises an error in every worker if the block failed or was interrupted in any of them. The
        block must not wait for other workers.

        Raises:
            Interrupted: Another worker was interrupted by a signal.
            RunError: Another worker failed, or is lost.
        """
        if not self.is_cluster:
            yield
            return
        error, status = None, 0
        try:
            yield
        except Exception as failure:
            error = failure
            status = failure.signal if isinstance(failure, Interrupted) else _FAILED
        if error:
            _log.warning("worker %d ends, and all other workers with it: %s", self._worker, error)
            with contextlib.suppress(RunError), self.translate_lost_worker():
                self.all_gather([status])
            raise error
        with self.translate_lost_worker():
            statuses = self.all_gather([status])[:, 0]
        if _FAILED in statuses:
            raise RunError(
                f"worker {list(statuses).index(_FAILED)} of the run has failed; its own log says "
                "why; start all workers again when that is fixed"
            )
        if statuses.any():
            raise Interrupted(signal.SIGTERM)

    def check_equal(self, values: Mapping[str, object]) -> None:
        """Checks that all workers have the same values, by their names in the message.

        Raises:
            UserError: A value differs. The message names it and the workers that differ.
        """
        if not self.is_cluster:
            return
        # Names first, because workers of different program versions compare different values.
        self._check_digests({"the version of the program": list(values)})
        self._check_digests(values)

    def _check_digests(self, values: Mapping[str, object]) -> None:
        numbers = [number for value in values.values() for number in _digest(value)]
        digests = self.all_gather(numbers).reshape(self._num_workers, len(values), -1)
        for (name, value), by_worker in zip(values.items(), digests.swapaxes(0, 1), strict=True):
            others = [n for n, digest in enumerate(by_worker) if (digest != by_worker[0]).any()]
            if others:
                raise UserError(
                    f"the workers of the run differ in {name}: worker "
                    f"{', '.join(map(str, others))[:80]} and worker 0 have different values, and "
                    f"worker {self._worker}, this one, has {str(value)[:80]!r}; start all workers "
                    "with the same settings, data and program"
                )

    @contextlib.contextmanager
    def translate_lost_worker(self) -> Iterator[None]:
        """Translates TensorFlow's errors about a lost worker into a RunError.

        Raises:
            RunError: Another worker is lost. Other errors pass unchanged.
        """
        try:
            yield
        except _LOST_WORKER_ERRORS as error:
            if not self.is_cluster:
                raise
            raise RunError(
                "another worker of the run has ended, or cannot be reached "
                f"({error.message.splitlines()[0][:200]}); start all workers again with the same "
                "commands, and they resume from the newest checkpoint"
            ) from error

    def synchronized_stop(self) -> contextlib.AbstractContextManager[None]:
        """Returns a context in which `check_stop` stops all workers at the same step.

        All workers must call `check_stop` the same number of times in it.
        """
        if not self.is_cluster:
            return contextlib.nullcontext()
        return use_stop(_SynchronizedStop(current_stop(), self))


class _SynchronizedStop:
    """Stops all workers when a signal arrives in one; `own` is the check of this worker, if any."""

    def __init__(self, own: Stop | None, replicas: Replicas) -> None:
        self._own, self._replicas = own, replicas

    def check(self) -> None:
        """Waits for all workers, and raises Interrupted if a signal arrived in any of them."""
        number = 0
        try:
            if self._own:
                self._own.check()
        except Interrupted as interrupted:
            number = interrupted.signal
        if self._replicas.all_gather([number]).any():
            raise Interrupted(number or signal.SIGTERM)


def _digest(value: object) -> list[int]:
    """Hashes a value to 16-bit numbers, whose sums over replicas fit in <int32>."""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).digest()
    return np.frombuffer(digest, ">u2").tolist()


def open_replicas(distribute: str) -> Replicas:
    """Creates the replicas of a run, one per device. Call it before any other use of TensorFlow.

    Raises:
        UserError: There is only one device, or TF_CONFIG is wrong.
        RunError: Another worker cannot be reached.
        Interrupted: A signal arrived.
    """
    if distribute == "multi_worker" or (distribute == "auto" and is_configured()):
        read_cluster().wait()
        return Replicas(tf.distribute.MultiWorkerMirroredStrategy())
    if distribute == "auto" and len(tf.config.list_logical_devices("GPU")) > 1:
        distribute = "mirrored"
    if distribute == "mirrored":
        return Replicas(tf.distribute.MirroredStrategy(_local_devices()))
    return one_replica()


def one_replica() -> Replicas:
    """Returns the single replica of a process that does not distribute its work."""
    return Replicas(tf.distribute.get_strategy())


def seeds_of(model: keras.Model) -> list[keras.Variable]:
    """Returns the states <int>[2] of all random number generators in a model."""
    name = keras.random.SeedGenerator(0).state.name  # Keras gives all of them this name
    return [variable for variable in model.variables if variable.name == name]


def _local_devices() -> list[str]:
    """Returns the names of the GPUs or, without several GPUs, of the logical CPUs."""
    for kind in ("GPU", "CPU"):
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        if len(devices) > 1:
            return devices
    raise UserError("--distribute=mirrored needs several GPUs, and there is one device; omit it")
