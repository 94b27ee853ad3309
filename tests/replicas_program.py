"""What test_replicas.py runs in processes of its own: N replicas on logical CPUs, 50 steps.

TensorFlow must be told of logical devices before it does anything else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.batches import training_batches
from tests.test_trainer import trainer_of
from trainer.config import TrainConfig
from trainer.data import make_vectorizer, open_data
from trainer.evaluator import Evaluator
from trainer.replicas import open_replicas


def main(count: int, config: TrainConfig, folder: Path) -> None:
    """Writes what each of 50 steps computed, and the logits after them."""
    if count > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        logical = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, logical)
    replicas = open_replicas("mirrored" if count > 1 else "none")
    assert replicas.count == count
    data = open_data(config)
    vectorizer = make_vectorizer(data.vocabulary(), config)
    splits = [data.examples(split, vectorizer) for split in ("train", "validation")]
    trainer = trainer_of(config, (vectorizer, *splits), folder, replicas=replicas)
    state, steps = trainer.state, []
    for epoch in range(10):
        batches = training_batches(
            splits[0],
            batch_size=config.batch_size,
            seed=0,
            epoch=epoch,
            parts=count,
            mine=replicas.here,
        )
        iterator = iter(batches)
        for _ in range(len(batches)):
            if len(steps) == 50:
                break
            trainer.train_steps(iterator, 1)
            steps.append([state.window.result()["loss"], float(state.gradient_norm.result())])
            state.window.reset()
            state.gradient_norm.reset_state()
    weights = [weight.numpy().ravel() for weight in state.model.trainable_variables]
    logits = Evaluator(state.model, replicas).logits(splits[1])
    reviews = [float(trainer._reviews.result()), float(trainer._tokens.result())]
    np.savez(folder / "steps", steps, np.concatenate(weights), logits, reviews)


if __name__ == "__main__":
    main(int(sys.argv[1]), TrainConfig(**json.loads(sys.argv[2])), Path(sys.argv[3]))
