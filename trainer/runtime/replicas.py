"""The replicas of a model that train together, by tf.distribute."""

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

_SEEDS_BETWEEN = 1_000_003  # from one replica to the next
_FAILED = 1000  # not the number of any signal
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)


class Replicas:
    """The copies of a model in all processes of a run, each on a device of its own.

    Each computes its part of every batch; sums go over all of them, so that they stay alike.

    Args:
        strategy: The strategy that keeps them alike.

    Attributes:
        count: How many there are, in all processes.
        local: The numbers of those in this process.
        is_cluster: Whether there may be other processes.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self.count = strategy.num_replicas_in_sync
        self.is_cluster = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        local = 1 if self.count == 1 else len(strategy.extended.worker_devices)
        first = local * (_worker_number(strategy.cluster_resolver) if self.is_cluster else 0)
        self.local = range(first, first + local)
        self._process, self._processes = first // local, self.count // local

    @property
    def is_chief(self) -> bool:
        """Says whether this process is the one that writes."""
        return self.local.start == 0

    def scope(self) -> contextlib.AbstractContextManager[object]:
        """Has variables that are made meanwhile be one for each replica, kept alike."""
        return self._strategy.scope()

    def run(self, compute: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 as tf.distribute does
        """Calls a function in each replica; what it answers stands on the replica's device."""
        return self._strategy.run(compute, args=arguments)

    def number(self) -> tf.Tensor:
        """Returns that of a replica <int64>[], from 0 to `count` - 1; called in a replica."""
        if self.count == 1:
            return tf.constant(0, tf.int64)
        return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)

    def shard(self, batch: tf.Tensor) -> tf.Tensor:
        """Takes a replica's own part of this process' batch [B, ...]; called in a replica."""
        if len(self.local) == 1:
            return batch
        number = tf.cast(self.number(), tf.int32) - self.local.start
        size = tf.shape(batch)[0] // len(self.local)
        return batch[number * size : (number + 1) * size]

    def summed(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Adds tensors up over all replicas; called in a replica."""
        if self.count == 1:
            return tensors
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)

    def first(self, of_each: Any) -> tf.Tensor:  # noqa: ANN401 a tensor, or tf.distribute's several
        """Returns the tensor of this process' first replica, of what `run` has answered."""
        return self._strategy.experimental_local_results(of_each)[0]

    def gathered(self, of_each: Any) -> tf.Tensor:  # noqa: ANN401 a tensor, or tf.distribute's several
        """Returns the tensors [B, ...] of all replicas of what `run` has answered, end to end."""
        if self.count == 1:
            return of_each
        shape = [None, *self.first(of_each).shape[1:]]  # which gather forgets
        return tf.ensure_shape(self._strategy.gather(of_each, axis=0), shape)

    def offset_replica_seeds(self, model: tf.keras.Model) -> None:
        """Has each replica draw random numbers of its own from now on.

        Their seeds are alike when they are made or restored, and so would be their dropout. The
        first replica's, which checkpoints hold, stay as they are.
        """
        if self.count == 1:
            return
        seeds = seeds_of(model)

        def shift() -> None:
            moved = tf.stack([self.number() * _SEEDS_BETWEEN, 0])
            for seed in seeds:
                seed.assign(seed.value + tf.cast(moved, seed.value.dtype))

        self._strategy.run(tf.function(shift))

    def wait(self) -> None:
        """Waits until all processes have come here."""
        self.total(tf.constant(0))

    @contextlib.contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Ends a block in all processes if it fails or is stopped in one of them.

        Without this the others would wait. The block must not wait for other processes.

        Raises:
            Interrupted: Another process was stopped by a signal.
            RunError: Another process has failed, or is gone.
        """
        if not self.is_cluster:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except Interrupted as stopped:
            error, code = stopped, stopped.signal
        except Exception as failure:
            error, code = failure, _FAILED
        else:
            code = 0
        if error:
            _log.warning("process %d ends, and the others with it: %s", self._process, error)
        with contextlib.suppress(*[RunError] if error else ()), self.translate_lost_process():
            codes = self._of_each([code])[:, 0]
        if error:
            raise error
        if _FAILED in codes:
            raise RunError(
                f"process {list(codes).index(_FAILED)} of the run has failed; its own log says "
                "why; start all processes again when that is fixed"
            )
        if codes.any():
            raise Interrupted(signal.SIGTERM)

    def compare(self, values: Mapping[str, object]) -> None:
        """Refuses to train where the processes of a run differ in something.

        Args:
            values: What must be the same in all of them, by the names for the message.

        Raises:
            UserError: A value differs; the message says which, and in which processes.
        """
        if not self.is_cluster:
            return
        # The names first: processes of different program versions would compare different things.
        named = {"the version of the program": list(values)}
        for some in (named, values):
            digests = self._of_each([n for value in some.values() for n in _digest(value)])
            digests = digests.reshape(self._processes, len(some), -1)
            for (name, value), of_each in zip(some.items(), digests.swapaxes(0, 1), strict=True):
                others = [n for n, digest in enumerate(of_each) if (digest != of_each[0]).any()]
                if others:
                    raise UserError(
                        f"the processes of the run differ in {name}: process "
                        f"{', '.join(map(str, others))[:80]} and process 0 have different ones, "
                        f"and process {self._process}, this one, has {str(value)[:80]!r}; start "
                        "all of them with the same settings, data and program"
                    )

    @contextlib.contextmanager
    def translate_lost_process(self) -> Iterator[None]:
        """Turns TensorFlow's errors about a lost process into a RunError.

        Raises:
            RunError: Another process is gone. Other errors pass unchanged.
        """
        try:
            yield
        except _LOST as error:
            if not self.is_cluster:
                raise
            raise RunError(
                "another process of the run is gone, or cannot be reached "
                f"({error.message.splitlines()[0][:200]}); start all of them again by the same "
                "commands, and they go on from the newest checkpoint"
            ) from error

    def _of_each(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns the numbers <int32>[P, N] of all P processes; waits for all of them."""
        rows = np.zeros([self._processes, len(numbers)], np.int32)
        rows[self._process] = numbers
        return self._totals(tf.constant(rows)).numpy()

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def _totals(self, numbers: tf.Tensor) -> tf.Tensor:
        of_each = self._strategy.run(lambda: self.summed([tf.identity(numbers)])[0])
        return self.first(of_each) // len(self.local)

    def synchronized_stop(self) -> contextlib.AbstractContextManager[None]:
        """Makes `check_stop` stop all processes at the same step, in a context.

        All processes must call `check_stop` equally often there.
        """
        if not self.is_cluster:
            return contextlib.nullcontext()
        return use_stop(SynchronizedStop(current_stop(), self))

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def total(self, number: tf.Tensor) -> tf.Tensor:
        """Adds a number <int32>[] of each process up; waits for all of them."""
        # identity: to have the number on the replica's device, where its sum goes.
        of_each = self._strategy.run(lambda: self.summed([tf.identity(number)])[0])
        return self.first(of_each) // len(self.local)


class SynchronizedStop:
    """Stops all processes of a run when a signal arrives in one of them.

    Args:
        own: What this process checks; None if it handles no signals.
        replicas: The replicas of the run.
    """

    def __init__(self, own: Stop | None, replicas: Replicas) -> None:
        self._own, self._replicas = own, replicas

    def check(self) -> None:
        """Raises Interrupted if a signal has arrived in any process; waits for all of them."""
        number = 0
        try:
            if self._own:
                self._own.check()
        except Interrupted as interrupted:
            number = interrupted.signal
        if int(self._replicas.total(tf.constant(number))):
            raise Interrupted(number or signal.SIGTERM)


def _digest(value: object) -> list[int]:
    """Hashes a value to numbers of 16 bits, which as <int32> can be added up over replicas."""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).digest()
    return np.frombuffer(digest, ">u2").tolist()


def open_replicas(distribute: str) -> Replicas:
    """Makes the replicas of a run; the first thing that its process does with TensorFlow.

    Args:
        distribute: `none`: one, on one device; `mirrored`: one for each GPU of this machine;
            `multi_worker`: the same in each process of TF_CONFIG; `auto`: multi_worker where
            TF_CONFIG is set, mirrored where there are several GPUs, else none.

    Raises:
        UserError: There is nothing to distribute to, or TF_CONFIG is wrong.
        RunError: Another process cannot be reached.
        Interrupted: A signal came.
    """
    if distribute == "auto":
        distribute = _usual()
    if distribute == "multi_worker":
        cluster = read_cluster()
        cluster.wait()
        return Replicas(tf.distribute.MultiWorkerMirroredStrategy())
    if distribute == "mirrored":
        return Replicas(tf.distribute.MirroredStrategy(_devices()))
    return Replicas(tf.distribute.get_strategy())


def seeds_of(model: keras.Model) -> list[keras.Variable]:
    """Returns the states <uint32>[2] of all random number generators in a model.

    Raises:
        RunError: The installed version of Keras keeps them elsewhere.
    """
    # Keras chooses the name. Under another one, no generator would be found, and all replicas would
    # # use the same dropout masks.
    name = keras.random.SeedGenerator(0).state.name
    known = keras.layers.Dropout(0.5, seed=0)
    seeds, known_seeds = (
        [variable for variable in layer.variables if variable.name == name]
        for layer in (model, known)
    )
    if len(known_seeds) != 1:
        raise RunError(
            f"Keras {keras.__version__} keeps random states elsewhere than this program expects; "
            "replicas would use the same dropout masks; install the version that setup.cfg names"
        )
    return seeds


def one_replica() -> Replicas:
    """Returns that of a process for itself, such as evaluates or predicts."""
    return Replicas(tf.distribute.get_strategy())


def _usual() -> str:
    if is_configured():
        return "multi_worker"
    return "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "none"


def _devices() -> list[str]:
    """Names the GPUs, or where there are none the CPUs that TensorFlow was told to see."""
    for kind in ("GPU", "CPU"):
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        if len(devices) > 1:
            return devices
    raise UserError(
        "--distribute=mirrored is for several GPUs, and here is one device; leave it out"
    )


def _worker_number(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> int:
    if resolver.task_type == "chief":
        return 0
    return resolver.task_id + ("chief" in resolver.cluster_spec().jobs)
