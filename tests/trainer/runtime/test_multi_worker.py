"""One run with two workers."""

import csv
import json
import os
import shutil
import signal
import socket
import time

import pytest


@pytest.fixture(scope="module")
def workers(start_process, flags):
    """Starts scripts.train in two processes that train one run: workers(model_dir).

    Further arguments are passed only to the second worker; `count` workers are started.
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
            arguments += ["--format=json", *(of_second if index == 1 else ())]
            started.append(start_process("train", *arguments, env=environment))
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
def uninterrupted_cluster(workers, tmp_path_factory):
    """The folder of a run of two workers, with their exit codes and outputs."""
    folder = tmp_path_factory.mktemp("two workers") / "run"
    return folder, [ended(process) for process in workers(folder)]


@pytest.mark.slow
def test_two_workers_train_one_run_and_only_the_chief_writes(uninterrupted_cluster):
    folder, (chief, other) = uninterrupted_cluster
    assert (chief[0], other[0]) == (0, 0), (chief, other)
    assert json.loads(chief[1]) == json.loads((folder / "results.json").read_text())
    assert other[1] == b""
    assert len(list(folder.glob("train/*tfevents*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_that_lost_a_worker_resumes_to_the_same_results(
    workers, uninterrupted_cluster, tmp_path, victim
):
    """Killed after some steps; both are started again by the same commands."""
    folder = tmp_path / "run"
    processes = workers(folder)
    wait_for(folder / "checkpoints" / "ckpt-6.index")
    processes[victim].send_signal(signal.SIGKILL)
    code, _, err = ended(processes[1 - victim])
    assert code == 2
    assert "another worker of the run has ended" in err
    assert not (folder / "results.json").exists()
    check_resumes(workers, folder, uninterrupted_cluster)


@pytest.mark.slow
@pytest.mark.parametrize("noticed", [0, 1])
def test_a_signal_to_one_worker_stops_all_after_saving(
    workers, uninterrupted_cluster, tmp_path, noticed
):
    folder = tmp_path / "run"
    processes = workers(folder)
    wait_for(folder / "checkpoints" / "ckpt-6.index")
    processes[noticed].send_signal(signal.SIGTERM)
    for code, _, err in map(ended, processes):
        assert code == 143, err
        assert "stopped by SIGTERM, everything is saved" in err
    check_resumes(workers, folder, uninterrupted_cluster)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "difference"),
    [
        ("--learning_rate=0.01", "differ in --learning_rate: worker 1 and worker 0"),
        ("--dataset=reviews.csv", "differ in the SHA-256 of the vocabulary: worker 1 and"),
    ],
)
def test_workers_that_differ_are_refused(workers, train_examples, tmp_path, flag, difference):
    if flag == "--dataset=reviews.csv":
        path = tmp_path / "reviews.csv"
        rows = [(text.decode(), label) for text, label in train_examples]
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows[: len(rows) // 2]])
        flag = f"--dataset={path}"
    for code, _, err in map(ended, workers(tmp_path / "run", flag)):
        assert code == 1, err
        assert difference in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_worker_that_fails_at_the_start_ends_the_other(workers, tmp_path):
    (code, _, err), (code_1, _, err_1) = map(
        ended, workers(tmp_path / "run", "--dataset=/nowhere.csv")
    )
    assert (code, code_1) == (2, 1)
    assert "error: worker 1 of the run has failed; its own log says why" in err
    assert "error: --dataset=/nowhere.csv" in err_1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_a_worker_that_never_starts(workers, tmp_path, number):
    (process,) = workers(tmp_path / "run", count=1)
    lines = iter(process.stderr.readline, b"")
    assert b"waiting for worker 1 at 127.0.0.1:" in next(lines)
    process.send_signal(number)
    code, _, err = ended(process)
    assert code == 128 + number, err
    assert not (tmp_path / "run").exists()


def check_resumes(workers, folder, uninterrupted_cluster):
    shutil.rmtree(folder / "train")  # events are not part of the state
    for code, _, err in map(ended, workers(folder)):
        assert code == 0, err
    whole, _ = uninterrupted_cluster
    assert (folder / "history.csv").read_text() == (whole / "history.csv").read_text()
    results = [json.loads((each / "results.json").read_text()) for each in (folder, whole)]
    assert {**results[0], "train_seconds": 0} == {**results[1], "train_seconds": 0}
