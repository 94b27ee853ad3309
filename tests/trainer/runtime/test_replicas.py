"""Replicas on logical CPUs take the steps of one replica."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipeline.batches import (
    PADDING_LABEL,
    eager_batches,
    evaluation_batches,
    evaluation_order,
    training_batches,
)
from pipeline.errors import UserError
from pipeline.examples import unlabelled_examples
from tests.helpers import read_results, write_csv
from tests.pretrained_folder import make_folder
from tests.small import ROOT
from trainer.config import TrainConfig
from trainer.runtime.replicas import open_replicas


@pytest.fixture(scope="module")
def program():
    """Runs replicas_program.py: program(mode, replicas, config, folder)."""

    def program(mode, count, config, folder):
        folder.mkdir(exist_ok=True)
        distribute = "mirrored" if count > 1 else "none"
        settings = dataclasses.asdict(dataclasses.replace(config, distribute=distribute))
        command = [
            sys.executable,
            "-m",
            "tests.trainer.runtime.replicas_program",
            str(mode),
            str(count),
        ]
        command += [json.dumps(settings), str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        return folder

    return program


@pytest.fixture(scope="module", params=[(2, 2), (4, 2), (2, 3)])
def steps(request, program, small_config, train_examples, tmp_path_factory):
    """The results of 20 steps of 1 and of several replicas; the last batch of an epoch is smaller.

    A parameter is the number of replicas and of classes. Without dropout, because each replica has
    its own.
    """
    count, classes = request.param
    folder = tmp_path_factory.mktemp("replicas")
    settings = {"dropout": 0.0, "weight_decay": 0.01, "batch_size": 15, "ngrams": 2}
    if classes > 2:  # long texts are a third class
        rows = [(text.decode(), 2 if len(text) > 300 else label) for text, label in train_examples]
        settings["dataset"] = str(write_csv(folder / "rows.csv", rows))
    config = dataclasses.replace(small_config, **settings)
    program("steps", count, config, folder)
    return [np.load(folder / f"{count}.npz") for count in (1, count)]


@pytest.mark.slow
def test_replicas_take_the_steps_of_one(steps):
    """The same losses and gradient norms within rounding, at each of 20 steps.

    Adam amplifies rounding where it divides by small gradients, as for n-grams in the first step.
    """
    one, several = steps
    np.testing.assert_allclose(several["steps"], one["steps"], rtol=3e-4)
    np.testing.assert_allclose(several["weights"], one["weights"], atol=1e-4)
    assert np.abs(one["steps"][0] - one["steps"][-1]).max() > 0.01  # it has trained
    assert (several["counts"] == one["counts"]).all()  # padding examples do not count


@pytest.mark.slow
def test_replicas_score_each_example_once(steps):
    np.testing.assert_allclose(steps[1]["logits"], steps[0]["logits"], atol=1e-3)
    assert np.ptp(steps[0]["logits"]) > 0.05


def assert_distinct(seeds_of_replicas):
    assert len(seeds_of_replicas)
    for seeds in seeds_of_replicas:
        assert len({tuple(seed) for seed in seeds}) == len(seeds) > 1


def test_each_replica_draws_its_own_random_numbers(program, small_config, tmp_path):
    config = dataclasses.replace(small_config, encoder="pooled_lstm", units=4)
    assert_distinct(np.load(program("seeds", 2, config, tmp_path) / "seeds.npy"))


@pytest.mark.slow
def test_replicas_still_differ_in_their_random_numbers_after_training(steps):
    assert_distinct(steps[1]["seeds"])


RENAMED = """
import sys
import keras
import tensorflow as tf
from pipeline.errors import RunError
from trainer.building import build_model, build_optimizer
from trainer.config import TrainConfig
from trainer.config import TrainConfig
from trainer.runtime.replicas import open_replicas

(cpu,) = tf.config.list_physical_devices("CPU")
logical = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, logical)
config = TrainConfig(units=4, embedding_dim=4)
with open_replicas("mirrored").strategy.scope():
    model = build_model(config, 10, 2, "float32")
    build_optimizer(config, model, steps=100)
    base = next(c for c in keras.optimizers.Adam.__mro__ if "_backend_update_step" in vars(c))
    summed, update = base._all_reduce_sum_gradients, base._backend_update_step

    def renamed(self, grads, variables, rate):
        self._all_reduce_sum_gradients = lambda pairs: summed(self, pairs)
        update(self, grads, variables, rate)

    base._backend_update_step = renamed
    try:
        build_optimizer(config, model, steps=100)
    except RunError as error:
        print(error)
"""


@pytest.mark.slow
def test_an_incompatible_keras_optimizer_is_refused():
    command = [sys.executable, "-c", RENAMED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "sums the gradients of replicas differently than this program expects" in done.stdout


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_replicas(program, small_config, tmp_path):
    """Started with two devices and resumed with one, within rounding the same."""
    config = dataclasses.replace(small_config, dropout=0.0)
    histories = []
    for name in ("whole", "stopped"):
        if name == "stopped":
            program("some", 2, config, tmp_path / name)
            assert (tmp_path / name / "checkpoints" / "ckpt-3.index").exists()
            assert not (tmp_path / name / "results.json").exists()
        program("all", 1, config, tmp_path / name)
        rows = (tmp_path / name / "history.csv").read_text().splitlines()[1:]
        histories.append([[float(value) for value in row.split(",")] for row in rows])
    np.testing.assert_allclose(*histories, atol=2e-3)


def test_shards_have_equal_size_and_each_example_once():
    lengths = np.random.default_rng(0).integers(1, 9, 103)
    rows = [[number + 2] * length for number, length in enumerate(lengths)]
    examples = unlabelled_examples(tf.ragged.constant(rows, tf.int32))
    for make in (evaluation_batches, eager_batches, training_batches):
        seeded = {"seed": 0, "epoch": 0} if make is training_batches else {}
        whole = list(make(examples, batch_size=10, **seeded))
        shards = [
            list(make(examples, batch_size=10, **seeded, shards=4, local=local))
            for local in (range(1), range(1, 3), range(3, 4))
        ]
        for batch, *pieces in zip(whole, *shards, strict=True):
            assert [len(labels) for _, labels, _ in pieces] == [3, 6, 3]
            labels = np.concatenate([labels for _, labels, _ in pieces])
            firsts = np.concatenate([token_ids[:, 0] for token_ids, *_ in pieces])
            assert (firsts[labels != PADDING_LABEL] == batch[0].numpy()[:, 0]).all()
            assert (firsts[labels == PADDING_LABEL] == 1).all()
    assert len(evaluation_order(examples.lengths)) == 103


def test_missing_devices_and_invalid_tf_config_are_user_errors(monkeypatch):
    with pytest.raises(UserError, match="needs several GPUs, and there is one device"):
        open_replicas("mirrored")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="needs the environment variable TF_CONFIG, such as"):
        open_replicas("multi_worker")
    assert open_replicas("auto").count == 1
    monkeypatch.setenv("TF_CONFIG", "{cluster")
    with pytest.raises(UserError, match="TF_CONFIG is wrong: it is not JSON"):
        open_replicas("auto")


@pytest.mark.slow
def test_two_replicas_fine_tune_a_pretrained_encoder_like_one(program, small_config, tmp_path):
    """Without dropout, because each replica has its own."""
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = TrainConfig(
        dataset=small_config.dataset,
        data_dir=small_config.data_dir,
        cache_dir=small_config.cache_dir,
        pretrained=str(make_folder(tmp_path / "encoder", **no_dropout)),
        dropout=0.0,
        sequence_length=40,
        batch_size=15,
        epochs=1,
        learning_rate=0.01,
    )
    one, two = (
        read_results(program("all", count, config, tmp_path / str(count)))["loss"]
        for count in (1, 2)
    )
    assert one == pytest.approx(two, rel=1e-3)
