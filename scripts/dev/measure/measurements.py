"""The measurements of scripts.dev.benchmark: functions of the settings; a value for each column."""

from __future__ import annotations

import cProfile
import dataclasses
import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pipeline import vocabulary
from pipeline.batches import training_batches
from pipeline.examples import Examples
from pipeline.text.tokenizer import Tokenizer
from scripts.cli.flags import FLAGS
from scripts.dev.measure.measuring import Measurement
from trainer import loop as training_loop
from trainer import run  # noqa: F401 so that the imports are those of scripts.train
from trainer.artifacts.run_record import RunRecord
from trainer.artifacts.training_set import TrainingSet
from trainer.config import TrainConfig
from trainer.data import make_tokenizer, open_corpus
from trainer.evaluation.metrics import compute_metrics
from trainer.evaluation.scoring import Evaluator
from trainer.loop import TrainingLoop
from trainer.monitoring import summaries
from trainer.runtime import devices
from trainer.runtime.replicas import one_replica

_PEAK_SIZE, _PEAK_REPEATS = 3072, 10

# Speed


def _measure_training(config: TrainConfig) -> Measurement:
    """Times an epoch of `scripts.train`, including tracing, summaries and checkpoints."""
    tokenizer, examples = _load_examples(config, "train")
    with tempfile.TemporaryDirectory() as name:
        loop = _make_loop(config, tokenizer, examples, Path(name))
        seconds = _time_call(lambda: loop.fit())
        return _describe_work(examples, seconds, loop.state.model, passes=3)


def _measure_scoring(score: Callable[..., object], config: TrainConfig) -> Measurement:
    """Times a function of an Evaluator and examples on the test split."""
    tokenizer, examples = _load_examples(config, "test")
    with tempfile.TemporaryDirectory() as name:
        model = _make_loop(config, tokenizer, examples, Path(name)).state.model
    evaluator = Evaluator(model)
    seconds = _time_call(lambda: score(evaluator, examples))
    return _describe_work(examples, seconds, model, passes=1)


def _measure_keras(method: str, split: str, config: TrainConfig) -> Measurement:
    """Times a method of the tutorial's Keras model."""
    tokenizer, examples = _load_examples(config, split)
    model = _make_keras_model(config, tokenizer.vocabulary_size)
    rows = [examples.row(position) for position in range(len(examples))]
    token_ids = keras.utils.pad_sequences(rows, config.sequence_length, padding="post")
    arguments: dict[str, Any] = {"verbose": 0}
    if method != "predict":
        arguments["y"] = examples.labels
    if method == "fit":
        arguments["batch_size"] = config.batch_size
    seconds = _time_call(lambda: getattr(model, method)(token_ids, **arguments))
    return _describe_work(examples, seconds, model, passes=3 if method == "fit" else 1)


def _make_keras_model(config: TrainConfig, vocabulary_size: int) -> keras.Model:
    """Builds the model of the tutorial without changes."""
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


def _describe_work(
    examples: Examples, seconds: float, model: keras.Model, *, passes: int
) -> Measurement:
    """Returns counts and speeds of work that took `seconds`.

    A forward pass is one of `passes`, and a backward pass is two. A pass has two operations for
    each token and each weight of the LSTMs.
    """
    counts = {"texts": len(examples), "tokens": int(examples.lengths.sum())}
    speeds = {f"{name}/s": count / seconds for name, count in counts.items()}
    weights = sum(math.prod(w.shape) for w in model.trainable_weights if "lstm" in w.path)
    operations = 2 * passes * weights * counts["tokens"]
    return {"seconds": seconds, **counts, **speeds, "GFLOP/s": operations / seconds / 1e9}


def _measure_peak(config: TrainConfig) -> Measurement:
    """Times the product of two large matrices of the precision of the run, with all cores."""
    dtype = keras.DTypePolicy(devices.choose_precision(config.precision)).compute_dtype
    matrix = tf.random.normal([_PEAK_SIZE, _PEAK_SIZE], dtype=dtype)
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    multiply().numpy()  # traces; not measured
    seconds = min(_time_call(lambda: multiply().numpy()) for _ in range(_PEAK_REPEATS))
    return {"seconds": seconds, "GFLOP/s": 2 * _PEAK_SIZE**3 / seconds / 1e9}


# Overhead


def _measure_input(config: TrainConfig) -> Measurement:
    """Times an epoch, and the time spent waiting for its batches."""
    tokenizer, examples = _load_examples(config, "train")
    with tempfile.TemporaryDirectory() as name:
        loop = _make_loop(config, tokenizer, examples, Path(name))
    batches = _training_batches(config, examples)
    waited, start = 0.0, time.monotonic()
    while True:
        wait_start = time.monotonic()
        batch = next(batches, None)
        waited += time.monotonic() - wait_start
        if batch is None:
            seconds = time.monotonic() - start
            return {"seconds": seconds, "waiting for a batch, %": 100 * waited / seconds}
        loop.train_step.run(iter(tf.data.Dataset.from_tensors(batch)), 1)


def _measure_summaries(config: TrainConfig) -> Measurement:
    """Times an epoch with its validation, and the calls of TrainingLoop to Summaries."""
    tokenizer, examples = _load_examples(config, "train")
    _, validation = _load_examples(config, "validation")
    with tempfile.TemporaryDirectory() as name, cProfile.Profile() as profile:
        loop = _make_loop(config, tokenizer, examples, Path(name), validation=validation)
        seconds = _time_call(lambda: loop.fit())
    profile.create_stats()
    spent = sum(
        cumulative
        for (file, *_), (*_, callers) in profile.stats.items()
        for (caller, *_), (*_, cumulative) in callers.items()
        if (file, caller) == (summaries.__file__, training_loop.__file__)
    )
    return {"seconds": seconds, "events for TensorBoard, %": 100 * spent / seconds}


def _measure_startup(config: TrainConfig) -> Measurement:
    """Times the phases until the end of the first step, with an empty and a full cache."""
    with tempfile.TemporaryDirectory() as name:
        config = dataclasses.replace(config, cache_dir=str(Path(name) / "cache"))
        empty, full = (_time_call(lambda: _load_examples(config, "train")) for _ in range(2))
        tokenizer, examples = _load_examples(config, "train")
        start = time.monotonic()
        loop = _make_loop(config, tokenizer, examples, Path(name))
        loop.train_step.run(_training_batches(config, examples), 1)
        first_step = time.monotonic() - start
    cache = {"examples, empty cache, s": empty, "examples, full cache, s": full}
    return cache | {"model and first step, s": first_step}


# Examples, batches and the training loop


def _load_examples(config: TrainConfig, split: str) -> tuple[Tokenizer, Examples]:
    """Returns the tokenizer and the first --examples of a split, or all."""
    corpus = open_corpus(config)
    tokenizer = make_tokenizer(corpus.vocabulary(), config)
    return tokenizer, corpus.examples(split, tokenizer)[: FLAGS.examples or None]


def _training_batches(config: TrainConfig, examples: Examples) -> tf.data.Iterator:
    size, seed = config.batch_size, config.seed
    return iter(training_batches(examples, batch_size=size, seed=seed, epoch=0))


def _make_loop(
    config: TrainConfig,
    tokenizer: Tokenizer,
    examples: Examples,
    model_dir: Path,
    *,
    validation: Examples | None = None,
) -> TrainingLoop:
    """Builds a training loop for one epoch; by default, it validates on one batch."""
    record = RunRecord(
        dataclasses.replace(config, epochs=1, max_steps=0),
        precision=devices.choose_precision(config.precision),
        label_names=("neg", "pos"),
        fingerprint=vocabulary.fingerprint(tokenizer.token_names[vocabulary.FIRST_TOKEN_ID :]),
        sizes={},
    )
    return TrainingLoop(
        record,
        model_dir,
        token_names=tokenizer.token_names,
        replicas=one_replica(),
        training=TrainingSet(config, model_dir, examples, None, class_count=2),
        validation=validation or examples[: config.batch_size],
    )


def _time_call(work: Callable[[], object]) -> float:
    """Returns the seconds that a call takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


# The measurements of section S are S and `keras S`.
MEASURES: dict[str, Callable[[TrainConfig], Measurement]] = {
    "training": _measure_training,
    "keras training": partial(_measure_keras, "fit", "train"),
    "evaluation": partial(_measure_scoring, lambda e, x: compute_metrics(x.labels, e.logits(x))),
    "keras evaluation": partial(_measure_keras, "evaluate", "test"),
    "prediction": partial(_measure_scoring, Evaluator.predict),
    "keras prediction": partial(_measure_keras, "predict", "test"),
    "peak": _measure_peak,
    "input": _measure_input,
    "summaries": _measure_summaries,
    "startup": _measure_startup,
}
