"""Measures the overhead of training: waiting for input, writing summaries, starting up."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from scripts.cli import streams
from scripts.dev.measurements.workload import (
    Measurement,
    load_examples,
    make_training_loop,
)
from scripts.dev.processes import set_threads, time_call

if TYPE_CHECKING:
    from trainer.config import TrainConfig


def measure_input(config: TrainConfig) -> Measurement:
    """Times an epoch, and the time spent waiting for its batches."""
    vectorizer, examples = load_examples(config, "train")
    import tensorflow as tf

    from pipeline.batches import training_batches

    with tempfile.TemporaryDirectory() as name:
        loop = make_training_loop(config, vectorizer, examples, Path(name))
    batches = iter(
        training_batches(examples, batch_size=config.batch_size, seed=config.seed, epoch=0)
    )
    waited, start = 0.0, time.monotonic()
    while True:
        wait_start = time.monotonic()
        batch = next(batches, None)
        waited += time.monotonic() - wait_start
        if batch is None:
            return {"seconds": time.monotonic() - start, "waited": waited}
        loop.step.train_steps(iter(tf.data.Dataset.from_tensors(batch)), 1)


def measure_summaries(config: TrainConfig) -> Measurement:
    """Times an epoch with its validation, and the time spent in `Summaries`."""
    vectorizer, examples = load_examples(config, "train")
    _, validation = load_examples(config, "validation")
    from trainer import loop as training

    spent = 0.0
    depth = 0  # methods of Summaries may call each other

    class TimedSummaries(training.Summaries):
        """Adds up the seconds in its methods."""

        def __getattribute__(self, name: str) -> Any:  # noqa: ANN401 as in Python
            value = super().__getattribute__(name)
            return timed(value) if callable(value) and not name.startswith("_") else value

    def timed(method: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            nonlocal spent, depth
            start, depth = time.monotonic(), depth + 1
            try:
                return method(*arguments, **named)
            finally:
                depth -= 1
                if not depth:
                    spent += time.monotonic() - start

        return call

    with (
        tempfile.TemporaryDirectory() as name,
        mock.patch.object(training, "Summaries", TimedSummaries),
    ):
        folder = Path(name)
        loop = make_training_loop(config, vectorizer, examples, folder, validation=validation)
        seconds = time_call(lambda: loop.fit())
    return {"seconds": seconds, "summaries": spent}


def measure_startup(config: TrainConfig) -> Measurement:
    """Times the phases until the end of the first step, with an empty and a full cache."""
    laps: dict[str, float] = {}
    last = time.monotonic()

    def end_lap(name: str) -> None:
        nonlocal last
        laps[name], last = time.monotonic() - last, time.monotonic()

    with streams.quiet_stderr():
        from pipeline.batches import training_batches
        from trainer import run  # noqa: F401 imports everything that training needs
    end_lap("imports")
    set_threads(config)
    with tempfile.TemporaryDirectory() as name:
        config = dataclasses.replace(config, cache_dir=str(Path(name) / "cache"))
        load_examples(config, "train")
        end_lap("examples, empty cache")
        vectorizer, examples = load_examples(config, "train")
        end_lap("examples, full cache")
        loop = make_training_loop(config, vectorizer, examples, Path(name))
        batches = training_batches(examples, batch_size=config.batch_size, seed=0, epoch=0)
        loop.step.train_steps(iter(batches), 1)
        end_lap("model and first step")
    return laps
