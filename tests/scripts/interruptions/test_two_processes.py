"""Two processes that use one model_dir at the same time."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers import read_scalars
from tests.small import ROOT

HOLD_THE_LOCK = """
import pathlib, sys
from trainer.runtime.lock import run_lock
with run_lock(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def assert_refused(second, pid):
    assert (second.returncode, second.stdout) == (1, b"")
    (line,) = second.stderr.decode().splitlines()
    assert line.startswith(f"error: process {pid} on ")


def test_a_second_process_in_the_same_folder_is_refused(run, flags, tmp_path):
    """The first process only holds the lock, so that it need not import TensorFlow."""
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as first:
        assert first.stdout.readline() == b"locked\n"
        assert_refused(run("train", f"--model_dir={tmp_path / 'run'}", *flags), first.pid)
    assert first.returncode == 0


@pytest.mark.slow
def test_a_run_locks_its_folder_until_a_signal_ends_it(start_process, run, flags, tmp_path):
    train = ("train", f"--model_dir={tmp_path / 'run'}", *flags, "--epochs=200")
    first = start_process(*train)
    while not (tmp_path / "run" / "config.json").exists():
        assert first.poll() is None
        time.sleep(0.05)
    assert_refused(run(*train), first.pid)
    first.send_signal(signal.SIGTERM)
    _, stderr = first.communicate(timeout=60)
    assert first.returncode == 143, stderr
    assert not (tmp_path / "run" / "lock").exists()


@pytest.mark.slow
def test_tensorboard_reads_events_while_training_writes_them(run, flags, tmp_path):
    folders = [tmp_path / "train", tmp_path / "validation"]
    readers = [EventAccumulator(str(f), size_guidance={"tensors": 0}) for f in folders]
    reads, is_trained = 0, threading.Event()

    def read():
        nonlocal reads
        while not is_trained.is_set():
            for folder, reader in zip(folders, readers, strict=True):
                if folder.exists():
                    reader.Reload()
                    reads += 1

    thread = threading.Thread(target=read)
    thread.start()
    try:
        done = run("train", f"--model_dir={tmp_path}", *flags)
    finally:
        is_trained.set()
        thread.join()
    assert done.returncode == 0, done.stderr
    assert reads > 10
    for folder, reader in zip(folders, readers, strict=True):
        reader.Reload()
        points = {(tag, e.step) for tag in reader.Tags()["tensors"] for e in reader.Tensors(tag)}
        assert points >= set(read_scalars(folder))
