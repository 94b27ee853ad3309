"""A run that is stopped by a signal or killed, and started again."""

import json
import signal
import sys
import time

import pytest

from tests.helpers import assert_same_run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
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
    wait_for(2)  # the first is of step 0
    stopped.send_signal(number)
    _, told = stopped.communicate(timeout=120)
    assert stopped.returncode == 128 + number
    assert (
        f"stopped by {number.name}, everything saved; to go on: {sys.executable} -m scripts.train"
        in (told.decode().splitlines()[-1])
    )
    if number == signal.SIGTERM:
        killed = start_process(*train)
        wait_for(newest() + 2)
        killed.kill()
        killed.communicate()
    done = run(*train)
    assert done.returncode == 0
    assert "resuming at step" in done.stderr.decode()
    assert_same_run(tmp_path / "run", trained)
