"""A run that is stopped by a signal or killed, and started again."""

import os
import signal
import sys
import threading
import time

import pytest

from tests.helpers import assert_same_run


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_stopped_and_killed_run_resumes_to_the_same_bits(
    trained, start_process, run, flags, tmp_path, number
):
    train = ("train", f"--model_dir={tmp_path / 'run'}", *flags)

    def newest():
        files = (tmp_path / "run" / "checkpoints").glob("ckpt-*.index")
        return max((int(file.stem[5:]) for file in files), default=0)

    def wait_for(checkpoint):
        deadline = time.monotonic() + 120
        while newest() < checkpoint:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    stopped = start_process(*train)
    wait_for(2)  # the first is written at step 0
    stopped.send_signal(number)
    _, stderr = stopped.communicate(timeout=120)
    assert stopped.returncode == 128 + number
    last_line = stderr.decode().splitlines()[-1]
    command = f"{sys.executable} -m scripts.train"
    assert f"stopped by {number.name}, everything is saved; to resume: {command}" in last_line
    if number == signal.SIGTERM:
        killed = start_process(*train)
        wait_for(newest() + 2)
        killed.kill()
        killed.communicate()
    done = run(*train, "--verbosity=0")
    assert done.returncode == 0
    assert "resuming at step" in done.stderr.decode()
    assert_same_run(tmp_path / "run", trained)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_training_after_saving(run, flags, tmp_path, number):
    checkpoints, is_ended = tmp_path / "run" / "checkpoints", threading.Event()

    def send_signal():
        while not (checkpoints / "ckpt-2.index").exists():
            if is_ended.wait(0.02):
                return
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send_signal)
    thread.start()
    done = run("train", f"--model_dir={tmp_path / 'run'}", *flags, "--epochs=50")
    is_ended.set()
    thread.join()
    assert done.returncode == 128 + number
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"stopped by {number.name}, everything is saved; to resume: ")
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.slow
def test_a_stopped_export_leaves_no_files(trained, start_process, tmp_path):
    export = start_process(
        "export", f"--model_dir={trained}", f"--export_dir={tmp_path / 'export'}"
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.iterdir()):  # the temporary folder
        assert time.monotonic() < deadline
        time.sleep(0.01)
    export.send_signal(signal.SIGTERM)
    _, stderr = export.communicate(timeout=120)
    assert export.returncode == 128 + signal.SIGTERM
    assert stderr.decode() == "stopped by SIGTERM\n"
    assert list(tmp_path.iterdir()) == []
