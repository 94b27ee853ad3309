"""Prepares the examples and the training loop that the measurements use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from scripts.cli import streams
from scripts.cli.flags import FLAGS

if TYPE_CHECKING:
    import keras

    from pipeline.datasets import NamedDataset
    from pipeline.examples import Examples
    from pipeline.vocabulary import Vectorizer
    from trainer.config import TrainConfig
    from trainer.loop import TrainingLoop
    from trainer.runtime.replicas import Replicas

Measurement = dict[str, Any]
Measure = Callable[["TrainConfig"], Measurement]


def open_named_dataset(config: TrainConfig) -> NamedDataset:
    """Opens --dataset.

    Raises:
        UserError: --dataset is not the name of a data set.
    """
    with streams.quiet_stderr():
        from pipeline.datasets import NamedDataset
        from trainer.data import open_corpus
    dataset = open_corpus(config).dataset
    if not isinstance(dataset, NamedDataset):
        raise UserError(f"--dataset={config.dataset} is not the name of a data set")
    return dataset


def load_examples(config: TrainConfig, split: str) -> tuple[Vectorizer, Examples]:
    """Returns the vectorizer and the first --examples of a split, or all."""
    with streams.quiet_stderr():
        from trainer.data import make_vectorizer, open_corpus
    corpus = open_corpus(config)
    vectorizer = make_vectorizer(corpus.vocabulary(), config)
    return vectorizer, corpus.examples(split, vectorizer)[: FLAGS.examples or None]


def make_training_loop(
    config: TrainConfig,
    vectorizer: Vectorizer,
    examples: Examples,
    model_dir: Path,
    *,
    validation: Examples | None = None,
    replicas: Replicas | None = None,
) -> TrainingLoop:
    """Builds a training loop for one epoch.

    Args:
        config: The settings.
        vectorizer: The vectorizer, which has the vocabulary.
        examples: The examples to train on.
        model_dir: An empty folder.
        validation: The validation examples; None: one batch of `examples`.
        replicas: The replicas that train; None: one.
    """
    from pipeline import vocabulary
    from trainer.artifacts.run_record import RunRecord
    from trainer.loop import TrainingLoop
    from trainer.runtime import devices
    from trainer.runtime.replicas import one_replica

    record = RunRecord(
        dataclasses.replace(config, epochs=1, max_steps=0),
        precision=devices.choose_precision(config.precision),
        label_names=("neg", "pos"),
        fingerprint=vocabulary.fingerprint(vectorizer.tokens),
        sizes={},
    )
    return TrainingLoop(
        record,
        model_dir,
        vocabulary=vectorizer.tokens,
        replicas=replicas or one_replica(),
        training=examples,
        validation=validation or examples[: config.batch_size],
    )


def describe_work(examples: Examples, seconds: float, flops_per_token: float) -> Measurement:
    """Returns a measurement: the seconds, and the amount of work in examples, tokens and GFLOP."""
    tokens = int(examples.lengths.sum())
    return {
        "seconds": seconds,
        "examples": len(examples),
        "tokens": tokens,
        "gigaflops": tokens * flops_per_token / 1e9,
    }


def count_flops_per_token(model: keras.Model) -> float:
    """Counts the floating-point operations of the matrix products per token: two per weight.

    The first variable is the embedding, which is looked up, not multiplied.
    """
    weights = model.trainable_variables[1:]
    return 2.0 * sum(
        int(weight.shape.num_elements()) for weight in weights if len(weight.shape) > 1
    )
