"""The measurements of scripts.dev.benchmark: functions of the settings that return named values."""

from __future__ import annotations

import cProfile
import dataclasses
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pipeline import vocabulary
from pipeline.batches import batches_per_epoch, training_batches
from pipeline.datasets import NamedDataset
from pipeline.errors import UserError
from pipeline.examples import Examples
from pipeline.vocabulary import Vectorizer
from scripts.cli.flags import FLAGS
from scripts.dev.measuring import Measurement
from trainer import loop as training_loop
from trainer import run  # noqa: F401 so that the imports are those of scripts.train
from trainer.artifacts.run_record import RunRecord
from trainer.config import TrainConfig
from trainer.data import make_corpus, make_vectorizer, open_corpus
from trainer.evaluation.metrics import compute_metrics
from trainer.evaluation.scoring import Evaluator
from trainer.loop import TrainingLoop
from trainer.monitoring import summaries
from trainer.runtime import devices, processor
from trainer.runtime.replicas import Replicas, one_replica

# Speed


def _measure_peak(config: TrainConfig) -> Measurement:
    """Measures the speed of large float32 matrix products on all cores."""
    del config
    size, times = 2048, 10
    matrix = tf.random.normal([size, size])

    def multiply() -> None:
        product = matrix
        for _ in range(times):
            product = tf.matmul(product, matrix) * 1e-2
        product.numpy()

    seconds = min(_time_call(multiply) for _ in range(4))
    return {"gigaflops_per_second": times * 2 * size**3 / seconds / 1e9}


def _measure_training(config: TrainConfig) -> Measurement:
    """Times an epoch of `scripts.train`, including tracing, summaries and checkpoints."""
    vectorizer, examples = _load_examples(config, "train")
    with tempfile.TemporaryDirectory() as name:
        loop = _make_loop(config, vectorizer, examples, Path(name))
        seconds = _time_call(lambda: loop.fit())
        return _describe_work(examples, seconds, 3 * _count_flops_per_token(loop.state.model))


def _measure_scoring(score: Callable[..., object], config: TrainConfig) -> Measurement:
    """Times a function of an Evaluator and examples on the test split."""
    vectorizer, examples = _load_examples(config, "test")
    with tempfile.TemporaryDirectory() as name:
        model = _make_loop(config, vectorizer, examples, Path(name)).state.model
    evaluator = Evaluator(model)
    seconds = _time_call(lambda: score(evaluator, examples))
    return _describe_work(examples, seconds, _count_flops_per_token(model))


def _measure_keras(method: str, split: str, config: TrainConfig) -> Measurement:
    """Times a method of the tutorial's Keras model."""
    vectorizer, examples = _load_examples(config, split)
    model = _make_keras_model(config, vectorizer.vocabulary_size)
    rows = [examples.row(position) for position in range(len(examples))]
    token_ids = keras.utils.pad_sequences(rows, config.sequence_length, padding="post")
    arguments: dict[str, Any] = {"verbose": 0}
    if method != "predict":
        arguments["y"] = examples.labels
    if method == "fit":
        arguments["batch_size"] = config.batch_size
    seconds = _time_call(lambda: getattr(model, method)(token_ids, **arguments))
    passes = 3 if method == "fit" else 1  # a backward pass costs as much as two forward passes
    return _describe_work(examples, seconds, passes * _count_flops_per_token(model))


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


def _describe_work(examples: Examples, seconds: float, flops_per_token: float) -> Measurement:
    tokens = int(examples.lengths.sum())
    gigaflops = tokens * flops_per_token / 1e9
    return {"seconds": seconds, "examples": len(examples), "tokens": tokens, "gigaflops": gigaflops}


def _count_flops_per_token(model: keras.Model) -> float:
    """Counts the floating-point operations of the matrix products per token: two per weight."""
    weights = model.trainable_variables[1:]  # the embedding is looked up, not multiplied
    return 2.0 * sum(int(w.shape.num_elements()) for w in weights if len(w.shape) > 1)


# Overhead


def _measure_input(config: TrainConfig) -> Measurement:
    """Times an epoch, and the time spent waiting for its batches."""
    vectorizer, examples = _load_examples(config, "train")
    with tempfile.TemporaryDirectory() as name:
        loop = _make_loop(config, vectorizer, examples, Path(name))
    batches = _training_batches(config, examples)
    waited, start = 0.0, time.monotonic()
    while True:
        wait_start = time.monotonic()
        batch = next(batches, None)
        waited += time.monotonic() - wait_start
        if batch is None:
            return {"seconds": time.monotonic() - start, "waited": waited}
        loop.train_step.run(iter(tf.data.Dataset.from_tensors(batch)), 1)


def _measure_summaries(config: TrainConfig) -> Measurement:
    """Times an epoch with its validation, and the calls of TrainingLoop to Summaries."""
    vectorizer, examples = _load_examples(config, "train")
    _, validation = _load_examples(config, "validation")
    with tempfile.TemporaryDirectory() as name, cProfile.Profile() as profile:
        loop = _make_loop(config, vectorizer, examples, Path(name), validation=validation)
        seconds = _time_call(lambda: loop.fit())
    profile.create_stats()
    spent = sum(
        cumulative
        for (file, *_), (*_, callers) in profile.stats.items()
        for (caller, *_), (*_, cumulative) in callers.items()
        if (file, caller) == (summaries.__file__, training_loop.__file__)
    )
    return {"seconds": seconds, "summaries": spent}


def _measure_startup(config: TrainConfig) -> Measurement:
    """Times the phases until the end of the first step, with an empty and a full cache."""
    with tempfile.TemporaryDirectory() as name:
        config = dataclasses.replace(config, cache_dir=str(Path(name) / "cache"))
        empty, full = (_time_call(lambda: _load_examples(config, "train")) for _ in range(2))
        vectorizer, examples = _load_examples(config, "train")
        start = time.monotonic()
        loop = _make_loop(config, vectorizer, examples, Path(name))
        loop.train_step.run(_training_batches(config, examples), 1)
        first_step = time.monotonic() - start
    cache = {"examples, empty cache": empty, "examples, full cache": full}
    return cache | {"model and first step": first_step}


# Scaling


def available_devices() -> int:
    """Returns the number of GPUs, or of cores if there is no GPU."""
    return len(tf.config.list_physical_devices("GPU")) or processor.cores()


def _measure_replicas(count: int, config: TrainConfig) -> Measurement:
    """Times one epoch without its first step, on `count` replicas."""
    replicas = Replicas(_make_strategy(count))
    vectorizer, examples = _load_examples(config, "train")
    with tempfile.TemporaryDirectory() as name:
        loop = _make_loop(config, vectorizer, examples, Path(name), replicas=replicas)
    batches = _training_batches(config, examples, shards=count, local=replicas.local)
    steps = batches_per_epoch(examples, config.batch_size) - 1
    loop.train_step.run(batches, 1)  # traces the step
    seconds = _time_call(lambda: loop.train_step.run(batches, steps))
    return {"seconds": seconds, "examples": len(examples) - config.batch_size}


def _make_strategy(count: int) -> tf.distribute.Strategy:
    """Creates a strategy with this many GPUs, or with logical CPUs that share the cores."""
    if count == 1:
        return tf.distribute.get_strategy()
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if kind == "CPU":
        (cpu,) = tf.config.list_physical_devices("CPU")
        logical = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, logical)
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(count)])


def _measure_scale(times: int, config: TrainConfig) -> Measurement:
    """Times reading and 100 steps, on `times` copies of the train split."""
    with tempfile.TemporaryDirectory() as name:
        config = dataclasses.replace(config, cache_dir=str(Path(name) / "cache"))
        dataset = open_named_dataset(config)
        repeated = _RepeatedDataset(**vars(dataset), times=times)
        corpus = make_corpus(config, repeated)
        start = time.monotonic()
        vectorizer = make_vectorizer(corpus.vocabulary(), config)
        examples = corpus.examples("train", vectorizer)
        reading = time.monotonic() - start
        loop = _make_loop(config, vectorizer, examples, Path(name))
        batches = _training_batches(config, examples)
        loop.train_step.run(batches, 1)  # traces the step
        seconds = _time_call(lambda: loop.train_step.run(batches, 100))
    return {"examples": repeated.size("train"), "reading": reading, "100 steps": seconds}


@dataclasses.dataclass(frozen=True)
class _RepeatedDataset(NamedDataset):
    """A data set whose splits are repeated; a word after each text distinguishes the copies."""

    times: int

    def size(self, split: str) -> int:
        return self.times * super().size(split)

    def read(self, split: str) -> tf.data.Dataset:
        def read_copy(number: tf.Tensor) -> tf.data.Dataset:
            word = tf.strings.join([" copy", tf.strings.as_string(number)])
            batches = super(_RepeatedDataset, self).read(split)
            return batches.map(lambda texts, labels: (texts + word, labels))

        return tf.data.Dataset.range(self.times).flat_map(read_copy)


# Examples, batches and the training loop


def open_named_dataset(config: TrainConfig) -> NamedDataset:
    """Opens --dataset.

    Raises:
        UserError: --dataset is not the name of a data set.
    """
    dataset = open_corpus(config).dataset
    if not isinstance(dataset, NamedDataset):
        raise UserError(f"--dataset={config.dataset} is not the name of a data set")
    return dataset


def _load_examples(config: TrainConfig, split: str) -> tuple[Vectorizer, Examples]:
    """Returns the vectorizer and the first --examples of a split, or all."""
    corpus = open_corpus(config)
    vectorizer = make_vectorizer(corpus.vocabulary(), config)
    return vectorizer, corpus.examples(split, vectorizer)[: FLAGS.examples or None]


def _training_batches(config: TrainConfig, examples: Examples, **shards: Any) -> tf.data.Iterator:  # noqa: ANN401 as training_batches
    size, seed = config.batch_size, config.seed
    return iter(training_batches(examples, batch_size=size, seed=seed, epoch=0, **shards))


def _make_loop(
    config: TrainConfig,
    vectorizer: Vectorizer,
    examples: Examples,
    model_dir: Path,
    *,
    validation: Examples | None = None,
    replicas: Replicas | None = None,
) -> TrainingLoop:
    """Builds a training loop for one epoch; by default, it validates on one batch."""
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


def _time_call(work: Callable[[], object]) -> float:
    """Returns the seconds that a call takes."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


# The measurements of section S are S, `keras S` and `S <number>`.
MEASURES: dict[str, Callable[[TrainConfig], Measurement]] = {
    "peak": _measure_peak,
    "training": _measure_training,
    "keras training": partial(_measure_keras, "fit", "train"),
    "evaluation": partial(_measure_scoring, lambda e, x: compute_metrics(x.labels, e.logits(x))),
    "keras evaluation": partial(_measure_keras, "evaluate", "test"),
    "prediction": partial(_measure_scoring, Evaluator.predict),
    "keras prediction": partial(_measure_keras, "predict", "test"),
    "input": _measure_input,
    "summaries": _measure_summaries,
    "startup": _measure_startup,
    **{f"replicas {count}": partial(_measure_replicas, count) for count in (1, 2, 4, 8)},
    **{f"scale {times}": partial(_measure_scale, times) for times in (1, 10, 100)},
}
