"""The replicas of a model that train together, by tf.distribute."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pipeline.errors import Mistake
from trainer.config import TrainConfig
from trainer.stopping import Stopped, StopSignals

_SEED_STATE = "seed_generator_state"  # what Keras calls the state of a layer's random numbers
_SEEDS_BETWEEN = 1_000_003  # from one replica to the next
# Settings, and what to do instead.
_REFUSED = {
    "gradient_accumulation": "a larger --batch_size does the same, in parts on each of them",
    "ema": "leave it out, or use --distribute=none",
}


class Replicas:
    """The copies of a model in all processes of a run, each on a device of its own.

    Each computes its part of every batch; sums go over all of them, so that they stay alike.

    Args:
        strategy: The strategy that keeps them alike.

    Attributes:
        count: How many there are, in all processes.
        here: The numbers of those in this process.
        is_cluster: Whether there may be other processes.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self.count = strategy.num_replicas_in_sync
        self.is_cluster = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        local = 1 if self.count == 1 else len(strategy.extended.worker_devices)
        first = local * (_worker_number(strategy.cluster_resolver) if self.is_cluster else 0)
        self.here = range(first, first + local)

    @property
    def is_chief(self) -> bool:
        """Says whether this process is the one that writes."""
        return self.here.start == 0

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

    def part(self, batch: tf.Tensor) -> tf.Tensor:
        """Takes a replica's own part of this process' batch [B, ...]; called in a replica."""
        if len(self.here) == 1:
            return batch
        number = tf.cast(self.number(), tf.int32) - self.here.start
        size = tf.shape(batch)[0] // len(self.here)
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

    def part_ways(self, model: tf.keras.Model) -> None:
        """Has each replica draw random numbers of its own from now on.

        Their seeds are alike when they are made or restored, and so would be their dropout. The
        first replica's, which checkpoints hold, stay as they are.
        """
        if self.count == 1:
            return
        seeds = [variable for variable in model.variables if variable.name == _SEED_STATE]

        def shift() -> None:
            moved = tf.stack([self.number() * _SEEDS_BETWEEN, 0])
            for seed in seeds:
                seed.assign(seed.value + tf.cast(moved, seed.value.dtype))

        self._strategy.run(tf.function(shift))

    def check(self, config: TrainConfig) -> None:
        """Refuses settings that Keras' optimizers do not have for several replicas.

        Raises:
            Mistake: There is one.
        """
        if self.count == 1:
            return
        for name, instead in _REFUSED.items():
            if getattr(config, name) != TrainConfig.__dataclass_fields__[name].default:
                raise Mistake(
                    f"--{name}={getattr(config, name)} is not for {self.count} replicas; {instead}"
                )

    def wait(self) -> None:
        """Waits until all processes have come here."""
        self.total(tf.constant(0))

    def agreed(self, stop: StopSignals) -> StopSignals:
        """Returns signals by which all processes stop at the same step, or what was given."""
        return _AgreedStop(stop, self) if self.is_cluster else stop

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def total(self, number: tf.Tensor) -> tf.Tensor:
        """Adds a number <int32>[] of each process up; waits for all of them."""
        # identity: to have the number on the replica's device, where its sum goes.
        of_each = self._strategy.run(lambda: self.summed([tf.identity(number)])[0])
        return self.first(of_each) // len(self.here)


class _AgreedStop(StopSignals):
    """Signals of one process that all heed.

    All have to ask equally often.
    """

    def __init__(self, own: StopSignals, replicas: Replicas) -> None:
        super().__init__()
        self._own, self._replicas = own, replicas

    def check(self) -> None:
        """Raises Stopped when a signal has come to any process."""
        number = self._own.received or 0
        highest = int(self._replicas.total(tf.constant(number)))
        if highest:
            raise Stopped(number or signal.SIGTERM)


def open_replicas(distribute: str) -> Replicas:
    """Makes the replicas of a run; the first thing that its process does with TensorFlow.

    Args:
        distribute: `none`: one, on one device; `mirrored`: one for each GPU of this machine;
            `multi_worker`: the same in each process of TF_CONFIG; `auto`: multi_worker where
            TF_CONFIG is set, mirrored where there are several GPUs, else none.

    Raises:
        Mistake: There is nothing to distribute to.
    """
    if distribute == "auto":
        distribute = _usual()
    if distribute == "multi_worker":
        if "cluster" not in _cluster():
            raise Mistake(
                "--distribute=multi_worker needs the environment variable TF_CONFIG, such as "
                '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", '
                '"index": 0}}, with another index in each process'
            )
        return Replicas(tf.distribute.MultiWorkerMirroredStrategy())
    if distribute == "mirrored":
        return Replicas(tf.distribute.MirroredStrategy(_devices()))
    return Replicas(tf.distribute.get_strategy())


def one_replica() -> Replicas:
    """Returns that of a process for itself, such as evaluates or predicts."""
    return Replicas(tf.distribute.get_strategy())


def _usual() -> str:
    if "cluster" in _cluster():
        return "multi_worker"
    return "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "none"


def _cluster() -> dict[str, Any]:
    text = os.environ.get("TF_CONFIG", "")
    try:
        return json.loads(text or "{}")
    except ValueError as error:
        raise Mistake(f"the environment variable TF_CONFIG is no JSON ({error})") from error


def _devices() -> list[str]:
    """Names the GPUs, or where there are none the CPUs that TensorFlow was told to see."""
    for kind in ("GPU", "CPU"):
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        if len(devices) > 1:
            return devices
    raise Mistake("--distribute=mirrored is for several GPUs, and here is one device; leave it out")


def _worker_number(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> int:
    if resolver.task_type == "chief":
        return 0
    return resolver.task_id + ("chief" in resolver.cluster_spec().jobs)
