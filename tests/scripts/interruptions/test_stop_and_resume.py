"""The commands as users run them."""

import json
import signal
import sys
import time

import pytest

from tests.helpers import read_scalars, weights_sha256


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_and_killed_ends_in_the_same_bits(
    trained, start_process, run, flags, tmp_path, number
):
    whole = trained
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
    assert "going on from step" in done.stderr.decode()
    assert weights_sha256(tmp_path / "run") == weights_sha256(whole)
    assert (tmp_path / "run" / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()
    for split in ("train", "validation"):
        curves, expected = (
            {key: v for key, v in read_scalars(f / split).items() if "per_second" not in key[0]}
            for f in (tmp_path / "run", whole)
        )
        assert curves == expected
    ours, theirs = (json.loads((f / "results.json").read_text()) for f in (tmp_path / "run", whole))
    assert ours | {"train_seconds": 0} == theirs | {"train_seconds": 0}
