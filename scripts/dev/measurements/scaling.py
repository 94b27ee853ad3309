"""Measures training on several replicas, and on data larger than memory."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.cli import streams
from scripts.dev.measurements.workload import (
    Measure,
    Measurement,
    load_examples,
    make_training_loop,
    open_named_dataset,
)
from scripts.dev.processes import time_call

if TYPE_CHECKING:
    import tensorflow as tf

    from pipeline.datasets import NamedDataset
    from trainer.config import TrainConfig

SCALES = (1, 10, 100)  # times the train split
REPLICAS = (1, 2, 4, 8)


def available_replicas() -> list[int]:
    """Returns the numbers of replicas for which there are GPUs, or cores if there is no GPU."""
    with streams.quiet_stderr():
        import tensorflow as tf

        from trainer.runtime import processor
    most = len(tf.config.list_physical_devices("GPU")) or processor.cores()
    return [count for count in REPLICAS if count <= most]


def measure_replicas(count: int) -> Measure:
    """Returns a measurement of one epoch without its first step, on this many replicas."""

    def measure(config: TrainConfig) -> Measurement:
        with streams.quiet_stderr():
            from pipeline.batches import training_batches
            from trainer.runtime.replicas import Replicas
        replicas = Replicas(_make_strategy(count))
        vectorizer, examples = load_examples(config, "train")
        with tempfile.TemporaryDirectory() as name:
            loop = make_training_loop(config, vectorizer, examples, Path(name), replicas=replicas)
        batches = training_batches(
            examples,
            batch_size=config.batch_size,
            seed=config.seed,
            epoch=0,
            shards=count,
            local=replicas.local,
        )
        iterator, steps = iter(batches), len(batches) - 1
        loop.step.train_steps(iterator, 1)  # traces the step
        seconds = time_call(lambda: loop.step.train_steps(iterator, steps))
        return {"seconds": seconds, "examples": len(examples) - config.batch_size}

    return measure


def _make_strategy(count: int) -> tf.distribute.Strategy:
    """Creates a strategy with this many GPUs, or with logical CPUs that share the cores."""
    import tensorflow as tf

    if count == 1:
        return tf.distribute.get_strategy()
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if kind == "CPU":
        (cpu,) = tf.config.list_physical_devices("CPU")
        logical = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, logical)
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(count)])


def measure_scale(times: int) -> Measure:
    """Returns a measurement of reading and of 100 steps, on `times` copies of the train split."""

    def measure(config: TrainConfig) -> Measurement:
        with streams.quiet_stderr():
            from pipeline.batches import training_batches
            from trainer.data import make_corpus, make_vectorizer
        with tempfile.TemporaryDirectory() as name:
            config = dataclasses.replace(config, cache_dir=str(Path(name) / "cache"))
            corpus = make_corpus(config, _repeat_dataset(open_named_dataset(config), times))
            start = time.monotonic()
            vectorizer = make_vectorizer(corpus.vocabulary(), config)
            examples = corpus.examples("train", vectorizer)
            reading = time.monotonic() - start
            loop = make_training_loop(config, vectorizer, examples, Path(name))
            batches = iter(
                training_batches(examples, batch_size=config.batch_size, seed=0, epoch=0)
            )
            loop.step.train_steps(batches, 1)  # traces the step
            seconds = time_call(lambda: loop.step.train_steps(batches, 100))
        count = corpus.dataset.size("train")
        return {"examples": count, "reading": reading, "100 steps": seconds}

    return measure


def _repeat_dataset(dataset: NamedDataset, times: int) -> NamedDataset:
    """Repeats each split; a word at the end of each text distinguishes the copies."""
    import tensorflow as tf

    from pipeline.datasets import NamedDataset

    class RepeatedDataset(NamedDataset):
        """A data set with several copies of each text."""

        def size(self, split: str) -> int:
            """Returns the number of examples of a split."""
            return times * super().size(split)

        def read(self, split: str) -> tf.data.Dataset:
            """Reads the copies of a split one after another."""

            def read_copy(number: tf.Tensor) -> tf.data.Dataset:
                word = tf.strings.join([" copy", tf.strings.as_string(number)])
                batches = super(RepeatedDataset, self).read(split)
                return batches.map(lambda texts, labels: (texts + word, labels))

            return tf.data.Dataset.range(times).flat_map(read_copy)

    return RepeatedDataset(dataset.name, dataset.label_names, dataset.builder)
