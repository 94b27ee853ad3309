"""Run by test_replicas.py in its own process: replicas on logical CPUs.

TensorFlow must create logical devices before anything else.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipeline.batches import training_batches
from tests.helpers import make_small_loop
from trainer import loop as training_loop
from trainer import run as runs
from trainer.building import build_model
from trainer.config import TrainConfig
from trainer.data import make_tokenizer, open_corpus
from trainer.evaluation.scoring import Evaluator
from trainer.runtime.replicas import Replicas, one_replica, open_replicas
from trainer.runtime.signals import Interrupted, StopSignals, use_stop

STEPS = 20


def take_steps(config: TrainConfig, folder: Path, replicas: Replicas) -> None:
    """Writes the loss and gradient norm of each step, and the weights and logits after them."""
    data = open_corpus(config)
    tokenizer = make_tokenizer(data.vocabulary(), config)
    splits = [data.examples(split, tokenizer) for split in ("train", "validation")]
    names = data.dataset.label_names
    splits_and_names = {"splits": (tokenizer, *splits), "label_names": names}
    made = make_small_loop(config, folder=folder, replicas=replicas, **splits_and_names)
    state, steps = made.state, []
    replicas.offset_replica_seeds(state.model)
    made._fit_without_steps()
    made._training.read()
    about = {"batch_size": config.batch_size, "seed": 0}
    about |= {"shards": replicas.count, "local": replicas.local}
    for epoch in range(3):
        batches = training_batches(made._training.examples, **about, epoch=epoch)
        iterator = iter(batches)
        for _ in range(min(len(batches), STEPS - len(steps))):
            made.train_step.run(iterator, 1)
            steps.append(
                [state.interval_metrics.result()["loss"], float(state.gradient_norm.result())]
            )
            state.interval_metrics.reset()
            state.gradient_norm.reset_state()
    np.savez(
        folder / f"{replicas.count}.npz",
        steps=steps,
        weights=np.concatenate([w.numpy().ravel() for w in state.model.trainable_variables]),
        logits=Evaluator(state.model, replicas).logits(splits[1]),
        counts=[float(made.train_step.examples.result()), float(made.train_step.tokens.result())],
        seeds=seeds(state.model, replicas),
    )


class StopAtCheckpoint(StopSignals):
    """Stops after the third checkpoint, as if a signal had arrived then."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = folder / "ckpt-3.index"

    def check(self) -> None:
        """Raises Interrupted if the checkpoint exists."""
        if self._path.exists():
            raise Interrupted(signal.SIGTERM)


def seeds(model: keras.Model, replicas: Replicas) -> np.ndarray:
    """Returns the state of each random generator in each replica, [generators, replicas, 2]."""
    generators = [v for v in model.variables if v.name == "seed_generator_state"]
    return np.array([replicas.strategy.experimental_local_results(v.value) for v in generators])


def write_first_seeds(config: TrainConfig, folder: Path, replicas: Replicas) -> None:
    """Writes the state of the random generators before the first step."""
    with replicas.strategy.scope():
        model = build_model(config, 10, 2, "float32")
    replicas.offset_replica_seeds(model)
    np.save(folder / "seeds.npy", seeds(model, replicas))


def main(mode: str, count: int, config: TrainConfig, folder: Path) -> None:
    """Takes 20 steps (`steps`) or none (`seeds`), or trains to the end (`all`) or not (`some`)."""
    if count > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        logical = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, logical)
    if mode == "seeds":
        write_first_seeds(config, folder, open_replicas("mirrored"))
        return
    if mode == "steps":
        for replicas in (one_replica(), open_replicas("mirrored")):
            take_steps(config, folder, replicas)
        return
    training_loop._SECONDS_PER_CALL = 1e-9  # a check for signals after each step
    stop = StopSignals() if mode == "all" else StopAtCheckpoint(folder / "checkpoints")
    with contextlib.suppress(Interrupted), use_stop(stop):
        runs.train(config, folder)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), TrainConfig(**json.loads(sys.argv[3])), Path(sys.argv[4]))
