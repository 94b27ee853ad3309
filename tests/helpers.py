"""Helpers that tests share: small models and loops, interruptions, and files of runs."""

import csv
import hashlib
import json
import re
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline import vocabulary
from trainer.artifacts.run_record import RunRecord
from trainer.artifacts.training_set import TrainingSet
from trainer.building import build_model
from trainer.config import TrainConfig
from trainer.loop import TrainingLoop
from trainer.runtime.replicas import one_replica
from trainer.runtime.signals import Interrupted, StopSignals, use_stop

# Examples for CSV files that a small model learns.
FILE_LABELS = {"neg": "dull", "pos": "great"}
FILE_ROWS = [
    (f"a {FILE_LABELS[label]} film {n}", label) for n in range(60) for label in FILE_LABELS
]
NGRAM_LABELS = np.array([0, 1, 1, 0, 1] * 8, np.int32)


# Files


def write_csv(path, rows=FILE_ROWS, header=("text", "label")):
    """Writes rows to a CSV file, and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def config_for_file(path, cache, **settings):
    """Returns the settings of a tiny run on a file."""
    small = {"encoder": "pooled_lstm", "units": 4, "embedding_dim": 4, "epochs": 1}
    return TrainConfig(dataset=str(path), cache_dir=str(cache), **small, **settings)


# Models and loops


def make_classifier(*encoders, policy="float32", **settings):
    """Builds a small classifier of 50 token ids, without dropout by default."""
    settings = {"embedding_dim": 12, "dropout": 0.0, "batch_size": 32, **settings}
    config = TrainConfig(encoder=",".join(encoders) or "none", **settings)
    return build_model(config, 50, 2, policy)


def random_token_ids(count, longest, seed=0):
    """Draws `count` rows of 1 to `longest` token ids, ragged <int32>[count, T]."""
    random = np.random.default_rng(seed)
    rows = [random.integers(1, 50, random.integers(1, longest + 1)).tolist() for _ in range(count)]
    return tf.ragged.constant(rows, tf.int32)


def make_adapted_classifier(longest, token_ids, *encoders):
    """Builds an n-gram classifier that knows the n-grams of these rows, with random scores."""
    model = make_classifier(*encoders, ngrams=longest)
    adapt_randomly(model.ngram_scorer, token_ids)
    return model


def adapt_randomly(scorer, token_ids):
    """Gives random scores and scales to all n-grams of these rows."""
    rows = np.unique(scorer.find_rows(token_ids.to_tensor())[1])
    random = np.random.default_rng(0)
    shape = (len(rows), *scorer.bias.shape)
    scores, scales = random.normal(scale=3, size=shape), random.uniform(0.5, 2, shape)
    scorer.assign(rows, scores, scales, random.normal(size=shape[1]))


def make_small_loop(
    config, splits, folder, *, training=None, replicas=None, label_names=("neg", "pos")
):
    """Makes a TrainingLoop on the splits of the fixture `splits`."""
    tokenizer, train, validation = splits
    record = RunRecord(
        config,
        precision="float32" if config.precision == "auto" else config.precision,
        label_names=label_names,
        fingerprint=vocabulary.fingerprint(tokenizer.token_names[vocabulary.FIRST_TOKEN_ID :]),
        sizes={},
    )
    return TrainingLoop(
        record,
        folder,
        token_names=tokenizer.token_names,
        replicas=replicas or one_replica(),
        training=TrainingSet(config, folder, training or train, None, class_count=len(label_names)),
        validation=validation,
    )


def take_step(loop, token_ids, labels):
    """Takes one training step on a batch, without offsets."""
    batch = (token_ids, labels, tf.zeros([len(labels), 0]))
    loop.train_step.run(iter(tf.data.Dataset.from_tensors(batch)), 1)


class StopAfterChecks(StopSignals):
    """Stops at the check after `checks` others, as if a signal had arrived then."""

    def __init__(self, checks):
        super().__init__()
        self._left = checks

    def check(self):
        self._left -= 1
        if self._left < 0:
            raise Interrupted(signal.SIGTERM)


def stop_in_epoch(loop, monkeypatch):
    """Fits a loop until it is stopped after some steps, as if a signal had arrived then."""
    monkeypatch.setattr("trainer.loop._SECONDS_PER_CALL", 1e-9)  # a check after each step
    train_epoch = loop._train_epoch

    def stop():
        with use_stop(StopAfterChecks(3)):
            train_epoch()

    monkeypatch.setattr(loop, "_train_epoch", stop)
    with pytest.raises(Interrupted):
        loop.fit()


class StopAfterEpoch(StopSignals):
    """Stops after the first epoch, as if a signal had arrived then."""

    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def check(self):
        if int(self._loop.state.step) == self._loop._steps_per_epoch:
            raise Interrupted(signal.SIGTERM)


def state_arrays(state):
    """Returns the values of all variables of a TrainState except the clock."""
    kinds = (
        state.model,
        state.optimizer,
        state.interval_metrics,
        state.epoch_metrics,
        state.gradient_norm,
    )
    keras_variables = [variable.value for kind in kinds for variable in kind.variables]
    counters = [state.step, state.epoch, state.best_loss, state.best_epoch, state.stale_epochs]
    return [variable.numpy() for variable in keras_variables + counters]


def all_equal(arrays, others):
    """Returns whether two lists of arrays have the same bits."""
    return all(np.array_equal(*pair) for pair in zip(arrays, others, strict=True))


# The files of a run


def copy_run(model_dir, folder):
    """Copies a run to folder/run, and returns that path."""
    return shutil.copytree(model_dir, folder / "run")


def read_scalars(folder):
    """Reads all scalars of a TensorBoard folder: {(tag, step): value}."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    tags = events.SummaryMetadata
    names = [t for t in events.Tags()["tensors"] if tags(t).plugin_data.plugin_name == "scalars"]
    points = [(tag, e) for tag in names for e in events.Tensors(tag)]
    values = {(tag, e.step): tf.make_ndarray(e.tensor_proto).item() for tag, e in points}
    assert len(values) == len(points), "a step is shown twice"
    return values


def read_curves(model_dir):
    """Reads the scalars of a run except its speed and time: {(split, tag, step): value}."""
    return {
        (split, tag, step): value
        for split in ("train", "validation")
        for (tag, step), value in read_scalars(model_dir / split).items()
        if "_second" not in tag
    }


def weights_sha256(model_dir):
    """Returns the SHA-256 of the newest checkpoint, without the clock."""
    reader = tf.train.load_checkpoint(str(model_dir / "checkpoints"))
    digest = hashlib.sha256()
    for name in sorted(reader.get_variable_to_shape_map()):
        if not re.search("seconds|save_counter|OBJECT_GRAPH", name):
            digest.update(name.encode() + np.asarray(reader.get_tensor(name)).tobytes())
    return digest.hexdigest()


def read_results(model_dir):
    """Reads results.json, without the time."""
    return json.loads((model_dir / "results.json").read_text()) | {"train_seconds": 0}


def assert_same_run(model_dir, other):
    """Asserts that two runs have the same bits: weights, history, curves and results."""
    assert weights_sha256(model_dir) == weights_sha256(other)
    assert (model_dir / "history.csv").read_bytes() == (other / "history.csv").read_bytes()
    assert read_curves(model_dir) == read_curves(other)
    assert read_results(model_dir) == read_results(other)
