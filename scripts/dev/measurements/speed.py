"""Measures the speed of training, evaluation and prediction, here and in Keras."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.cli import streams
from scripts.dev.measurements.workload import (
    Measure,
    Measurement,
    count_flops_per_token,
    describe_work,
    load_examples,
    make_training_loop,
)
from scripts.dev.processes import time_call

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from pipeline.examples import Examples
    from trainer.config import TrainConfig


def measure_peak(config: TrainConfig) -> Measurement:
    """Measures the speed of large float32 matrix products on all cores."""
    del config
    with streams.quiet_stderr():
        import tensorflow as tf
    size, times = 2048, 10
    matrix = tf.random.normal([size, size])

    @tf.function
    def multiply() -> tf.Tensor:
        product = matrix
        for _ in range(times):
            product = tf.matmul(product, matrix) * 1e-2
        return product

    multiply()
    seconds = min(time_call(lambda: multiply().numpy()) for _ in range(3))
    return {"gigaflops_per_second": times * 2 * size**3 / seconds / 1e9}


def measure_training(config: TrainConfig) -> Measurement:
    """Times an epoch of `scripts.train`, including tracing, summaries and checkpoints."""
    vectorizer, examples = load_examples(config, "train")
    with tempfile.TemporaryDirectory() as name:
        loop = make_training_loop(config, vectorizer, examples, Path(name))
        seconds = time_call(lambda: loop.fit())
        return describe_work(examples, seconds, 3 * count_flops_per_token(loop.state.model))


def measure_scoring(method: str) -> Measure:
    """Returns a measurement of a method of Evaluator on the test split."""

    def measure(config: TrainConfig) -> Measurement:
        vectorizer, examples = load_examples(config, "test")
        from trainer.evaluation.scoring import Evaluator

        with tempfile.TemporaryDirectory() as name:
            model = make_training_loop(config, vectorizer, examples, Path(name)).state.model
        evaluator = Evaluator(model)
        seconds = time_call(lambda: getattr(evaluator, method)(examples))
        return describe_work(examples, seconds, count_flops_per_token(model))

    return measure


def measure_keras(method: str, split: str) -> Measure:
    """Returns a measurement of a method of the tutorial's Keras model."""

    def measure(config: TrainConfig) -> Measurement:
        vectorizer, examples = load_examples(config, split)
        model = _make_keras_model(config, vectorizer.vocabulary_size)
        token_ids = _pad(examples, config.sequence_length)
        arguments: dict[str, Any] = {"verbose": 0}
        if method != "predict":
            arguments["y"] = examples.labels
        if method == "fit":
            arguments["batch_size"] = config.batch_size
        seconds = time_call(lambda: getattr(model, method)(token_ids, **arguments))
        passes = 3 if method == "fit" else 1  # a backward pass costs as much as two forward passes
        return describe_work(examples, seconds, passes * count_flops_per_token(model))

    return measure


def _make_keras_model(config: TrainConfig, vocabulary_size: int) -> keras.Model:
    """Builds the model of the tutorial without changes."""
    import keras

    keras.config.set_dtype_policy("float32" if config.precision == "auto" else config.precision)
    model = keras.Sequential(
        [
            keras.layers.Embedding(vocabulary_size, config.embedding_dim),
            keras.layers.LSTM(128, return_sequences=True),
            keras.layers.LSTM(64),
            keras.layers.Dense(1, activation="sigmoid", dtype="float32"),
        ]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return model


def _pad(examples: Examples, length: int) -> np.ndarray:
    """Returns the token ids, padded at the end, <int32>[len(examples), length]."""
    import numpy as np

    token_ids = np.zeros([len(examples), length], np.int32)
    for position, row_length in enumerate(examples.lengths):
        token_ids[position, :row_length] = examples.row(position)
    return token_ids
