"""Times training against Keras fit: python -m scripts.benchmark [--repeats=2] [flags of train].

Trains one epoch of the network of the settings on the same reviews, by this project's loop and by
Keras' fit of the tutorial's Sequential model on reviews padded to --sequence_length, in turn and
each in a process of its own, with the threads that it uses by itself. Progress goes to stderr; the
report, a Markdown table, to stdout.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from pipeline.errors import Fault
from scripts import command_line
from scripts.command_line import FLAGS

if TYPE_CHECKING:
    from pipeline.reviews import Reviews
    from pipeline.vocabulary import Vectorizer
    from trainer.config import TrainConfig

flags.DEFINE_integer("repeats", 2, "times that each is timed, in turn", lower_bound=1)
flags.DEFINE_integer("reviews", 0, "train on so many reviews; 0: on all", lower_bound=0)
flags.DEFINE_enum("measure", "", ("", "ours", "keras"), "time this one once, and print seconds")
flags.DEFINE_string("json", "", "file that the seconds are written to as well")
command_line.define_setting_flags()

_PRECISION = "float32"  # both compute in it, on any device
_NAMES = {"ours": "this project", "keras": "Keras `fit`, padded"}


def main(arguments: list[str]) -> None:
    """Times both in turn, and prints the medians and their ratio."""
    command_line.refuse(arguments)
    config = command_line.settings()
    if FLAGS.measure:
        print(_measure(config))
        return
    seconds: dict[str, list[float]] = {"ours": [], "keras": []}
    for repeat in range(FLAGS.repeats):
        for name, times in seconds.items():
            measured, reviews = map(float, _in_process(name).split())
            times.append(measured)
            command_line.note(f"{repeat + 1}/{FLAGS.repeats} {_NAMES[name]}: {measured:.1f} s")
    print(_report(seconds, reviews))
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(seconds, indent=2) + "\n", encoding="utf-8")


def _in_process(name: str) -> str:
    """Runs this command again for one measurement, and answers what it prints."""
    command = [sys.executable, "-m", "scripts.benchmark", *sys.argv[1:], f"--measure={name}"]
    environment = dict(os.environ)
    if name == "keras":
        environment["TF_NUM_INTRAOP_THREADS"] = "0"  # TensorFlow's own default
    try:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    except subprocess.CalledProcessError as error:
        raise Fault(f"{' '.join(command)} ended with exit code {error.returncode}") from error
    return done.stdout.decode()


def _measure(config: TrainConfig) -> str:
    with command_line.quiet_stderr():
        from trainer.data import Data, make_vectorizer
    data = Data(config)
    vectorizer = make_vectorizer(data.vocabulary(), config)
    examples = data.examples("train", vectorizer)[: FLAGS.reviews or None]
    epoch = _our_epoch if FLAGS.measure == "ours" else _keras_epoch
    return f"{epoch(config, vectorizer, examples)} {len(examples)}"


def _our_epoch(config: TrainConfig, vectorizer: Vectorizer, examples: Reviews) -> float:
    """Trains an epoch as `scripts.train` does, tracing, summaries and checkpoints included."""
    from trainer.run import make_trainer
    from trainer.stopping import StopSignals

    config = dataclasses.replace(config, epochs=1, precision=_PRECISION)
    one_batch = examples[: config.batch_size]
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            config,
            Path(folder),
            vectorizer,
            precision=_PRECISION,
            training=examples,
            validation=one_batch,
        )
        start = time.monotonic()
        trainer.fit(Path(folder), stop=StopSignals())  # not entered: Ctrl-C acts at once
        return time.monotonic() - start


def _keras_epoch(config: TrainConfig, vectorizer: Vectorizer, examples: Reviews) -> float:
    """Trains an epoch as the tutorial writes it."""
    import keras
    import numpy as np

    model = keras.Sequential(
        [
            keras.layers.Embedding(vectorizer.vocabulary_size, config.embedding_dim),
            keras.layers.LSTM(128, return_sequences=True),
            keras.layers.LSTM(64),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    token_ids = np.zeros([len(examples), config.sequence_length], np.int32)
    for position, length in enumerate(examples.lengths):
        token_ids[position, :length] = examples.row(position)
    start = time.monotonic()
    model.fit(token_ids, examples.labels, batch_size=config.batch_size, verbose=0)
    return time.monotonic() - start


def _report(seconds: dict[str, list[float]], reviews: float) -> str:
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    lines = ["| training | seconds an epoch | reviews/s | of Keras' time |", "|---|---|---|---|"]
    for name, median in medians.items():
        share = median / medians["keras"]
        lines.append(f"| {_NAMES[name]} | {median:.1f} | {reviews / median:.0f} | {share:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main)
