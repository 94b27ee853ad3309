"""Measures speed against Keras: python -m scripts.dev.benchmark [--parts=...] [flags of train].

Parts: training and evaluation and prediction set this project against Keras' fit, evaluate and
predict of the tutorial's Sequential model, on the same reviews padded to --sequence_length, in turn
(A B A B); input is the share of training that waits for a batch, summaries that which goes into
TensorBoard's events; replicas an epoch by 1, 2 … replicas, each on a GPU of its own or, where there
is none, on the same cores; startup is what is paid before the first step. Each measurement has a
process of its own, with the threads that it uses by itself.
Progress goes to stderr; the report, Markdown tables, to stdout.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from pipeline.errors import UserError
from scripts.cli import commands
from scripts.cli.commands import FLAGS

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from pipeline.examples import Examples
    from pipeline.vocabulary import Vectorizer
    from trainer.config import TrainConfig
    from trainer.loop import TrainingLoop
    from trainer.runtime.replicas import Replicas

Measured = dict[str, Any]

_COMPARED = {"training": "fit", "evaluation": "evaluate", "prediction": "predict"}
_AROUND = ("describe", "flush", "close")  # what Summaries does beside writing
_SCALES = (1, 10, 100)  # times the train split
_REPLICAS = (1, 2, 4, 8)  # as far as there are GPUs or cores
_PARTS = (*_COMPARED, "input", "summaries", "startup", "replicas", "scale")
_AT_ONCE = _PARTS[: _PARTS.index("replicas")]


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_list(
        "parts", ",".join(_AT_ONCE), "what to measure; also replicas, and scale, which takes 6 GB"
    )
    flags.DEFINE_integer("repeats", 2, "times that each is measured, in turn", lower_bound=1)
    flags.DEFINE_integer("reviews", 0, "measure on so many reviews; 0: on all", lower_bound=0)
    flags.DEFINE_string("json", "", "file that all that was measured is written to as well")
    flags.DEFINE_string("measure", "", "measure this alone, once, in this process, and print JSON")
    commands.define_setting_flags()


def main(arguments: list[str]) -> None:
    """Measures in turn, and prints medians and ratios."""
    commands.refuse(arguments)
    config = commands.settings()
    if FLAGS.measure:
        commands.set_threads(config)
        print(json.dumps(_MEASURES[FLAGS.measure](config) | {"megabytes": _peak_megabytes()}))
        return
    unknown = set(FLAGS.parts) - set(_PARTS)
    if unknown:
        raise UserError(f"--parts={','.join(unknown)} is unknown; choose from {','.join(_PARTS)}")
    names = [name for part in _PARTS if part in FLAGS.parts for name in _names(part)]
    measured: dict[str, list[Measured]] = {name: [] for name in ("peak", *names)}
    for repeat in range(FLAGS.repeats):
        for name, results in measured.items():
            results.append(_in_process(name))
            commands.note(f"{repeat + 1}/{FLAGS.repeats} {name}: {results[-1]}")
    print(_report(measured))
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


def _names(part: str) -> list[str]:
    if part == "scale":
        return [f"scale {times}" for times in _SCALES]
    if part == "replicas":
        return [f"replicas {count}" for count in _replicas_at_hand()]
    return [part, f"keras {part}"] if part in _COMPARED else [part]


def _replicas_at_hand() -> list[int]:
    with commands.quiet_stderr():
        import tensorflow as tf

        from trainer.runtime import processor
    most = len(tf.config.list_physical_devices("GPU")) or processor.cores()
    return [count for count in _REPLICAS if count <= most]


def _in_process(name: str) -> Measured:
    """Runs this command again for one measurement."""
    is_theirs = name == "peak" or name.startswith("keras")
    threads = {"TF_NUM_INTRAOP_THREADS": "0"} if is_theirs else {}  # TensorFlow's own default
    return commands.measured_apart([*sys.argv[1:], f"--measure={name}"], threads)


def _peak_megabytes() -> int:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes // (1024 * 1024 if sys.platform == "darwin" else 1024)


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _read(config: TrainConfig, split: str) -> tuple[Vectorizer, Examples]:
    with commands.quiet_stderr():
        from trainer.data import make_vectorizer, open_corpus
    data = open_corpus(config)
    vectorizer = make_vectorizer(data.vocabulary(), config)
    return vectorizer, data.examples(split, vectorizer)[: FLAGS.reviews or None]


def _about(examples: Examples, seconds: float, flops_per_token: float) -> Measured:
    tokens = int(examples.lengths.sum())
    return {
        "seconds": seconds,
        "reviews": len(examples),
        "tokens": tokens,
        "gigaflops": tokens * flops_per_token / 1e9,
    }


def _products(model: keras.Model) -> float:
    """Counts the operations of a token's matrix products: two for each weight but embeddings."""
    weights = model.trainable_variables[1:]
    return 2.0 * sum(
        int(weight.shape.num_elements()) for weight in weights if len(weight.shape) > 1
    )


def _trainer(
    config: TrainConfig,
    vectorizer: Vectorizer,
    examples: Examples,
    folder: Path,
    *,
    validation: Examples | None = None,
    replicas: Replicas | None = None,
) -> TrainingLoop:
    from pipeline import vocabulary
    from trainer.artifacts.run_record import RunRecord
    from trainer.preparation import make_loop
    from trainer.runtime import devices
    from trainer.runtime.replicas import one_replica

    record = RunRecord(
        dataclasses.replace(config, epochs=1, max_steps=0),
        precision=devices.precision(config.precision),
        label_names=("neg", "pos"),
        fingerprint=vocabulary.fingerprint(vectorizer.tokens),
        sizes={},
    )
    return make_loop(
        record,
        folder,
        words=vectorizer.tokens,
        replicas=replicas or one_replica(),
        training=examples,
        validation=validation or examples[: config.batch_size],
    )


def _our_training(config: TrainConfig) -> Measured:
    """An epoch as `scripts.train` trains it: tracing, summaries and checkpoints included."""
    vectorizer, examples = _read(config, "train")

    with tempfile.TemporaryDirectory() as name:
        trainer = _trainer(config, vectorizer, examples, Path(name))
        seconds = _seconds(lambda: trainer.fit(Path(name)))
        return _about(examples, seconds, 3 * _products(trainer.state.model))


def _our_scoring(work: str) -> Callable[[TrainConfig], Measured]:
    def measure(config: TrainConfig) -> Measured:
        vectorizer, examples = _read(config, "test")
        from trainer.evaluation.scoring import Evaluator

        with tempfile.TemporaryDirectory() as name:
            model = _trainer(config, vectorizer, examples, Path(name)).state.model
        evaluator = Evaluator(model)
        seconds = _seconds(lambda: getattr(evaluator, work)(examples))
        return _about(examples, seconds, _products(model))

    return measure


def _keras(work: str, split: str) -> Callable[[TrainConfig], Measured]:
    """Measures a method of the tutorial's model, as the tutorial writes it."""

    def measure(config: TrainConfig) -> Measured:
        vectorizer, examples = _read(config, split)
        import keras

        keras.config.set_dtype_policy("float32" if config.precision == "auto" else config.precision)
        model = keras.Sequential(
            [
                keras.layers.Embedding(vectorizer.vocabulary_size, config.embedding_dim),
                keras.layers.LSTM(128, return_sequences=True),
                keras.layers.LSTM(64),
                keras.layers.Dense(1, activation="sigmoid", dtype="float32"),
            ]
        )
        model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
        token_ids = _padded(examples, config.sequence_length)
        arguments = {
            "fit": {"y": examples.labels, "batch_size": config.batch_size},
            "evaluate": {"y": examples.labels},
            "predict": {},
        }[work]
        seconds = _seconds(lambda: getattr(model, work)(token_ids, **arguments, verbose=0))
        return _about(examples, seconds, (3 if work == "fit" else 1) * _products(model))

    return measure


def _padded(examples: Examples, length: int) -> np.ndarray:
    import numpy as np

    token_ids = np.zeros([len(examples), length], np.int32)
    for position, own_length in enumerate(examples.lengths):
        token_ids[position, :own_length] = examples.row(position)
    return token_ids


def _input(config: TrainConfig) -> Measured:
    """Times an epoch a step at a time, and each wait for a batch apart."""
    vectorizer, examples = _read(config, "train")
    import tensorflow as tf

    from pipeline.batches import training_batches

    with tempfile.TemporaryDirectory() as name:
        trainer = _trainer(config, vectorizer, examples, Path(name))
    arguments = {"batch_size": config.batch_size, "seed": config.seed, "epoch": 0}
    batches, waited, start = iter(training_batches(examples, **arguments)), 0.0, time.monotonic()
    while True:
        asked = time.monotonic()
        batch = next(batches, None)
        waited += time.monotonic() - asked
        if batch is None:
            return {"seconds": time.monotonic() - start, "waited": waited}
        trainer._step.train_steps(iter(tf.data.Dataset.from_tensors(batch)), 1)


def _summaries(config: TrainConfig) -> Measured:
    """Times an epoch with its validation, and apart what of it goes into events."""
    vectorizer, examples = _read(config, "train")
    validation = _read(config, "validation")[1]
    from trainer import loop as training
    from trainer.monitoring.summaries import Summaries

    spent = 0.0

    class Timed(Summaries):
        def __getattribute__(self, name: str) -> Any:  # noqa: ANN401 as Python has it
            value = super().__getattribute__(name)
            return timed(value) if name.startswith("write") or name in _AROUND else value

    def timed(method: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object, **named: object) -> None:
            nonlocal spent
            spent += _seconds(lambda: method(*arguments, **named))

        return call

    training.Summaries = Timed
    with tempfile.TemporaryDirectory() as name:
        trainer = _trainer(config, vectorizer, examples, Path(name), validation=validation)
        seconds = _seconds(lambda: trainer.fit(Path(name)))
    return {"seconds": seconds, "summaries": spent}


def _by_replicas(count: int) -> Callable[[TrainConfig], Measured]:
    """Times the steps of an epoch but the first, which is traced, by so many replicas."""

    def measure(config: TrainConfig) -> Measured:
        with commands.quiet_stderr():
            import tensorflow as tf

            from pipeline.batches import training_batches
            from trainer.runtime.replicas import Replicas
        strategy = _strategy(count)
        replicas = Replicas(strategy)
        vectorizer, examples = _read(config, "train")
        with tempfile.TemporaryDirectory() as name:
            trainer = _trainer(config, vectorizer, examples, Path(name), replicas=replicas)
        arguments = {"batch_size": config.batch_size, "seed": config.seed, "epoch": 0}
        among = {"shards": count, "local": replicas.local}
        batches = training_batches(examples, **arguments, **among)
        iterator, steps = iter(batches), tf.constant(len(batches) - 1, tf.int64)
        trainer._step.train_steps(iterator, tf.constant(1, tf.int64))
        seconds = _seconds(lambda: trainer._step.train_steps(iterator, steps))
        reviews = len(examples) - config.batch_size
        return {"seconds": seconds, "reviews": reviews}

    return measure


def _strategy(count: int) -> tf.distribute.Strategy:
    """Makes one of so many GPUs, or of CPUs that share the cores."""
    import tensorflow as tf

    if count == 1:
        return tf.distribute.get_strategy()
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if kind == "CPU":
        (cpu,) = tf.config.list_physical_devices("CPU")
        logical = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, logical)
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(count)])


def _startup(config: TrainConfig) -> Measured:
    """Times what comes before the first step is done, with an empty cache and with a full one."""
    laps, last = {}, time.monotonic()

    def lap(name: str) -> None:
        nonlocal last
        laps[name], last = time.monotonic() - last, time.monotonic()

    with commands.quiet_stderr():
        from pipeline.batches import training_batches
        from trainer import run  # noqa: F401 all that training imports
    lap("imports")
    with tempfile.TemporaryDirectory() as name:
        config = dataclasses.replace(config, cache_dir=str(Path(name) / "cache"))
        _read(config, "train")
        lap("reviews, empty cache")
        vectorizer, examples = _read(config, "train")
        lap("reviews, full cache")
        trainer = _trainer(config, vectorizer, examples, Path(name))
        batches = training_batches(examples, batch_size=config.batch_size, seed=0, epoch=0)
        trainer._step.train_steps(iter(batches), 1)
        lap("model and first step")
    return laps


def _scale(times: int) -> Callable[[TrainConfig], Measured]:
    """Measures start-up and 100 steps on the train split repeated, a word of each copy its own."""

    def measure(config: TrainConfig) -> Measured:
        with commands.quiet_stderr():
            import tensorflow as tf

            from pipeline.batches import training_batches
            from pipeline.datasets import NamedDataset
            from trainer.data import make_corpus, make_vectorizer, open_corpus

        class Repeated(NamedDataset):
            def size(self, split: str) -> int:
                return times * super().size(split)

            def read(self, split: str) -> tf.data.Dataset:
                def copy(number: tf.Tensor) -> tf.data.Dataset:
                    word = tf.strings.join([" copy", tf.strings.as_string(number)])
                    reviews = super(Repeated, self).read(split)
                    return reviews.map(lambda texts, labels: (texts + word, labels))

                return tf.data.Dataset.range(times).flat_map(copy)

        with tempfile.TemporaryDirectory() as name:
            config = dataclasses.replace(config, cache_dir=str(Path(name) / "cache"))
            once = open_corpus(config).dataset
            data = make_corpus(config, Repeated(once.name, once.label_names, once.builder))
            start = time.monotonic()
            vectorizer = make_vectorizer(data.vocabulary(), config)
            examples = data.examples("train", vectorizer)
            read = time.monotonic() - start
            trainer = _trainer(config, vectorizer, examples, Path(name))
            batches = iter(
                training_batches(examples, batch_size=config.batch_size, seed=0, epoch=0)
            )
            trainer._step.train_steps(batches, 1)
            seconds = _seconds(lambda: trainer._step.train_steps(batches, 100))
        return {"reviews": data.dataset.size("train"), "reading": read, "100 steps": seconds}

    return measure


def _peak(config: TrainConfig) -> Measured:
    """Times float32 matrix products that are as good as they get, on all cores."""
    del config
    with commands.quiet_stderr():
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
    seconds = min(_seconds(lambda: multiply().numpy()) for _ in range(3))
    return {"gigaflops_per_second": times * 2 * size**3 / seconds / 1e9}


_MEASURES: dict[str, Callable[[TrainConfig], Measured]] = {
    "peak": _peak,
    "training": _our_training,
    "keras training": _keras("fit", "train"),
    "evaluation": _our_scoring("evaluate"),
    "keras evaluation": _keras("evaluate", "test"),
    "prediction": _our_scoring("predict"),
    "keras prediction": _keras("predict", "test"),
    "input": _input,
    "summaries": _summaries,
    "startup": _startup,
    **{f"replicas {count}": _by_replicas(count) for count in _REPLICAS},
    **{f"scale {times}": _scale(times) for times in _SCALES},
}


def _report(measured: dict[str, list[Measured]]) -> str:
    def median(name: str, value: str) -> float:
        return statistics.median(result[value] for result in measured[name])

    peak = median("peak", "gigaflops_per_second")
    lines = [
        f"Medians of {FLAGS.repeats}; matrix products reach {peak:.0f} GFLOP/s on this machine.",
    ]
    if not set(_COMPARED).isdisjoint(measured):
        columns = "seconds | reviews/s | tokens/s | of Keras' time | of the peak | memory, MB"
        lines += ["", f"| | {columns} |", "|---|---|---|---|---|---|---|"]
    for part, method in _COMPARED.items():
        if part not in measured:
            continue
        theirs = median(f"keras {part}", "seconds")
        for name, title in ((part, part), (f"keras {part}", f"Keras `{method}`, padded")):
            seconds = median(name, "seconds")
            rates = [median(name, of) / seconds for of in ("reviews", "tokens", "gigaflops")]
            lines.append(
                f"| {title} | {seconds:.1f} | {rates[0]:.0f} | {rates[1]:.0f} "
                f"| {seconds / theirs:.2f} | {rates[2] / peak:.0%} "
                f"| {median(name, 'megabytes'):.0f} |"
            )
    if "input" in measured:
        share = median("input", "waited") / median("input", "seconds")
        lines += ["", f"Waiting for a batch: {share:.2%} of training."]
    if "summaries" in measured:
        share = median("summaries", "summaries") / median("summaries", "seconds")
        lines += ["", f"Events for TensorBoard: {share:.2%} of an epoch and its validation."]
    if "startup" in measured:
        laps = [name for name in measured["startup"][0] if name != "megabytes"]
        lines += ["", "| before the first step is done | seconds |", "|---|---|"]
        lines += [f"| {name} | {median('startup', name):.1f} |" for name in laps]
    if "replicas 1" in measured:
        lines += [
            "",
            "| replicas | seconds | reviews/s | of one replica's speed |",
            "|---|---|---|---|",
        ]
        alone = median("replicas 1", "seconds")
        for name in _names("replicas"):
            seconds, reviews = median(name, "seconds"), median(name, "reviews")
            lines.append(
                f"| {name.split()[1]} | {seconds:.1f} | {reviews / seconds:.0f} "
                f"| {alone / seconds:.2f} |"
            )
    if f"scale {_SCALES[0]}" in measured:
        lines += ["", "| reviews | reading them, ms each | 100 steps, s | memory, MB |"]
        lines += ["|---|---|---|---|"]
        for name in _names("scale"):
            reviews, seconds = median(name, "reviews"), median(name, "reading")
            lines.append(
                f"| {reviews:.0f} | {1000 * seconds / reviews:.2f} "
                f"| {median(name, '100 steps'):.1f} | {median(name, 'megabytes'):.0f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    commands.run(main, define_flags)
