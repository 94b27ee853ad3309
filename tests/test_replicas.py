"""Several replicas are one training: on logical CPUs, and in two processes."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from pipeline.batches import PADDING_LABEL, evaluation_batches, evaluation_order, training_batches
from pipeline.errors import UserError
from pipeline.examples import in_memory
from tests.conftest import ROOT
from trainer.runtime.replicas import one_replica, open_replicas


@pytest.fixture(scope="module")
def program():
    """Runs tests/replicas_program.py: program(what, replicas, config, folder)."""

    def program(what, count, config, folder):
        folder.mkdir(exist_ok=True)
        distribute = "mirrored" if count > 1 else "none"
        settings = dataclasses.asdict(dataclasses.replace(config, distribute=distribute))
        command = [sys.executable, "-m", "tests.replicas_program", str(what), str(count)]
        command += [json.dumps(settings), str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        return folder

    return program


@pytest.fixture(scope="module")
def steps(program, small_config, tmp_path_factory):
    """What 50 steps of 1, 2 and 4 replicas computed; the last batch of an epoch is a smaller one.

    Without dropout, of which each replica has its own.
    """
    settings = {"dropout": 0.0, "weight_decay": 0.01, "batch_size": 15, "ngrams": 2}
    config = dataclasses.replace(small_config, **settings)
    folder = tmp_path_factory.mktemp("replicas")
    return [
        np.load(program("steps", count, config, folder / str(count)) / "steps.npz")
        for count in (1, 2, 4)
    ]


@pytest.mark.parametrize("number", [1, 2])
def test_replicas_take_the_steps_of_one(steps, number):
    """Losses and norms of the gradient within rounding, at each of 50 steps.

    Rounding is multiplied where Adam divides by small gradients, as n-grams have in the first step.
    """
    one, several = steps[0], steps[number]
    np.testing.assert_allclose(several["steps"], one["steps"], rtol=3e-4)
    np.testing.assert_allclose(several["weights"], one["weights"], atol=1e-4)
    assert np.abs(one["steps"][0] - one["steps"][-1]).max() > 0.01  # it has trained
    assert (several["counts"] == one["counts"]).all()  # no filler is a review


@pytest.mark.parametrize("number", [1, 2])
def test_replicas_score_each_review_once(steps, number):
    np.testing.assert_allclose(steps[number]["logits"], steps[0]["logits"], atol=1e-3)
    assert np.ptp(steps[0]["logits"]) > 0.05


def test_each_replica_draws_its_own_random_numbers(steps):
    for several in steps[1:]:
        for seeds in several["seeds"]:
            assert len({tuple(seed) for seed in seeds}) == len(seeds)


RENAMED = """
import sys
import keras
import tensorflow as tf
from pipeline.errors import RunError
from trainer.building import build_model, build_optimizer
from trainer.config import TrainConfig
from trainer.runtime.replicas import open_replicas

(cpu,) = tf.config.list_physical_devices("CPU")
logical = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, logical)
config = TrainConfig(units=4, embedding_dim=4)
with open_replicas("mirrored").scope():
    model = build_model(config, 10, "float32")
    build_optimizer(config, model, steps=100)
    base = next(c for c in keras.optimizers.Adam.__mro__ if "_backend_update_step" in vars(c))
    summed, update = base._all_reduce_sum_gradients, base._backend_update_step

    def renamed(self, grads, variables, rate):
        self._all_reduce_sum_gradients = lambda pairs: summed(self, pairs)
        update(self, grads, variables, rate)

    base._backend_update_step = renamed
    try:
        build_optimizer(config, model, steps=100)
    except RunError as fault:
        print(fault)
"""


@pytest.mark.slow
def test_a_keras_that_sums_gradients_by_another_method_is_refused():
    command = [sys.executable, "-c", RENAMED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "adds up gradients over replicas in another way than this program expects" in done.stdout


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_replicas(program, small_config, tmp_path):
    """A machine with two devices is taken away, one with one goes on: within rounding the same."""
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


def test_parts_of_a_batch_are_equal_and_hold_each_review_once():
    lengths = np.random.default_rng(0).integers(1, 9, 103)
    rows = [[number + 2] * length for number, length in enumerate(lengths)]
    examples = in_memory(tf.ragged.constant(rows, tf.int32))
    for make in (evaluation_batches, training_batches):
        seeded = {"seed": 0, "epoch": 0} if make is training_batches else {}
        whole = list(make(examples, batch_size=10, **seeded))
        parts = [
            list(make(examples, batch_size=10, **seeded, shards=4, local=local))
            for local in (range(1), range(1, 3), range(3, 4))
        ]
        for batch, *pieces in zip(whole, *parts, strict=True):
            assert [len(labels) for _, labels in pieces] == [3, 6, 3]
            labels = np.concatenate([labels for _, labels in pieces])
            firsts = np.concatenate([token_ids[:, 0] for token_ids, _ in pieces])
            assert (firsts[labels != PADDING_LABEL] == batch[0].numpy()[:, 0]).all()
            assert (firsts[labels == PADDING_LABEL] == 1).all()
    assert len(evaluation_order(examples.lengths)) == 103


def test_what_several_replicas_cannot_do_is_refused_by_name(small_config):
    replicas = one_replica()
    replicas.count = 2
    for name, value in (("ema", 0.9), ("gradient_accumulation", 4)):
        with pytest.raises(UserError, match=rf"--{name}={value} is not for 2 replicas; "):
            replicas.check(dataclasses.replace(small_config, **{name: value}))
    replicas.check(small_config)


def test_a_device_alone_and_a_missing_or_broken_tf_config_are_told(monkeypatch):
    with pytest.raises(UserError, match="is for several GPUs, and here is one device"):
        open_replicas("mirrored")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="needs the environment variable TF_CONFIG, such as"):
        open_replicas("multi_worker")
    assert open_replicas("auto").count == 1
    monkeypatch.setenv("TF_CONFIG", "{cluster")
    with pytest.raises(UserError, match="TF_CONFIG is not JSON"):
        open_replicas("auto")


@pytest.fixture(scope="module")
def workers(start, flags):
    """Starts scripts.train in two processes that train one run: workers(model_dir).

    More arguments are those of the second alone; `count` is how many of the two are started.
    """
    started = []

    def workers(model_dir, *of_second, count=2):
        sockets = [socket.socket() for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
        for one in sockets:
            one.close()
        for index in range(count):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
            arguments = [f"--model_dir={model_dir}", *flags, "--dropout=0.3", "--epochs=4"]
            arguments += of_second if index == 1 else ()
            started.append(start("train", *arguments, env=environment))
        return started[-count:]

    yield workers
    for process in started:
        process.kill()
        process.communicate()


def ended(process):
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err.decode()


def wait_for(path):
    until = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(workers, tmp_path_factory):
    """The folder of a run of two processes, and what they answered."""
    folder = tmp_path_factory.mktemp("two workers") / "run"
    return folder, [ended(process) for process in workers(folder)]


@pytest.mark.slow
def test_two_processes_train_one_run_and_one_of_them_writes(undisturbed):
    folder, (chief, other) = undisturbed
    assert (chief[0], other[0]) == (0, 0), (chief, other)
    assert json.loads(chief[1]) == json.loads((folder / "results.json").read_text())
    assert other[1] == b""
    assert len(list(folder.glob("train/*tfevents*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_that_loses_a_process_ends_as_one_that_did_not(
    workers, undisturbed, tmp_path, victim
):
    """Killed after some steps; both are started again by the same commands."""
    folder = tmp_path / "run"
    processes = workers(folder)
    wait_for(folder / "checkpoints" / "ckpt-6.index")
    processes[victim].send_signal(signal.SIGKILL)
    code, _, err = ended(processes[1 - victim])
    assert code == 2
    assert "another process of the run is gone" in err
    assert not (folder / "results.json").exists()
    check_goes_on(workers, folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("noticed", [0, 1])
def test_a_notice_to_one_process_stops_all_after_saving(workers, undisturbed, tmp_path, noticed):
    folder = tmp_path / "run"
    processes = workers(folder)
    wait_for(folder / "checkpoints" / "ckpt-6.index")
    processes[noticed].send_signal(signal.SIGTERM)
    for code, _, err in map(ended, processes):
        assert code == 143, err
        assert "stopped by SIGTERM, everything is saved" in err
    check_goes_on(workers, folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "what"),
    [
        ("--learning_rate=0.01", "differ in --learning_rate: process 1 and process 0"),
        ("--dataset=reviews.csv", "differ in the vocabulary (of this SHA-256): process 1 and"),
    ],
)
def test_processes_that_differ_are_refused(workers, train_reviews, tmp_path, flag, what):
    if flag == "--dataset=reviews.csv":
        path = tmp_path / "reviews.csv"
        rows = [(text.decode(), label) for text, label in train_reviews]
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows[: len(rows) // 2]])
        flag = f"--dataset={path}"
    for code, _, err in map(ended, workers(tmp_path / "run", flag)):
        assert code == 1, err
        assert what in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_process_that_cannot_begin_ends_the_other(workers, tmp_path):
    (code, _, err), (code_1, _, err_1) = map(
        ended, workers(tmp_path / "run", "--dataset=/nowhere.csv")
    )
    assert (code, code_1) == (2, 1)
    assert "error: process 1 of the run has failed; its own log says why" in err
    assert "error: --dataset=/nowhere.csv" in err_1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_a_process_that_never_starts(workers, tmp_path, number):
    (process,) = workers(tmp_path / "run", count=1)
    lines = iter(process.stderr.readline, b"")
    assert b"waiting for process 1 at 127.0.0.1:" in next(lines)
    process.send_signal(number)
    code, _, err = ended(process)
    assert code == 128 + number, err
    assert not (tmp_path / "run").exists()


def check_goes_on(workers, folder, undisturbed):
    shutil.rmtree(folder / "train")  # events are no part of the state
    for code, _, err in map(ended, workers(folder)):
        assert code == 0, err
    whole, _ = undisturbed
    assert (folder / "history.csv").read_text() == (whole / "history.csv").read_text()
    results = [json.loads((each / "results.json").read_text()) for each in (folder, whole)]
    assert {**results[0], "train_seconds": 0} == {**results[1], "train_seconds": 0}
