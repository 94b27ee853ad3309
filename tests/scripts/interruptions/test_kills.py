"""kill -9 at random moments, and texts of megabytes: minutes, so they are marked slow."""

import json
import random
import re
import shutil
import signal
import time

import pytest

from tests.helpers import assert_same_run

pytestmark = pytest.mark.slow

KILLS = 20


@pytest.fixture(scope="session")
def longer_flags(flags):
    """A checkpoint after each step, of a model that takes long to write."""
    return [*flags, "--epochs=3", "--embedding_dim=256", "--checkpoint_every=1"]


@pytest.fixture(scope="session")
def whole(tmp_path_factory, start_process, longer_flags):
    """An uninterrupted run, and the seconds from its config.json to its end."""
    model_dir = tmp_path_factory.mktemp("whole") / "run"
    process = start_process("train", f"--model_dir={model_dir}", *longer_flags)
    while not (model_dir / "config.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    began = time.monotonic()
    process.communicate(timeout=240)
    assert process.returncode == 0
    return model_dir, time.monotonic() - began


def assert_same_run_and_checkpoints(model_dir, uninterrupted):
    assert_same_run(model_dir, uninterrupted)
    names = {path.name for path in (model_dir / "checkpoints").iterdir()}
    kept = {name for name in names if re.fullmatch(r"ckpt-\d+\.(index|data-00000-of-00001)", name)}
    assert names == kept | {"checkpoint"}
    assert len(kept) == 6


@pytest.mark.parametrize("number", range(KILLS))
def test_a_run_killed_at_random_resumes_to_the_same_bits(
    tmp_path, start_process, run_process, longer_flags, whole, number
):
    model_dir, (whole_dir, seconds) = tmp_path / "run", whole
    train = ("train", f"--model_dir={model_dir}", *longer_flags)
    moments, returncode = random.Random(number), 0
    while returncode == 0:  # it may have finished before the kill
        shutil.rmtree(model_dir, ignore_errors=True)
        process = start_process(*train)
        while not model_dir.exists():
            assert process.poll() is None
            time.sleep(0.01)
        # At any time between the vocabulary and the evaluation on the test split.
        time.sleep(moments.uniform(0, seconds))
        process.kill()
        process.communicate()
        returncode = process.returncode
    assert returncode == -signal.SIGKILL
    done = run_process(*train)
    assert done.returncode == 0, done.stderr.decode()
    assert_same_run_and_checkpoints(model_dir, whole_dir)


def test_a_run_killed_while_writing_checkpoints_resumes_to_the_same_bits(
    tmp_path, start_process, run_process, longer_flags, whole
):
    """Three times in one run, each while TensorFlow's unfinished folder exists."""
    model_dir = tmp_path / "run"
    train = ("train", f"--model_dir={model_dir}", *longer_flags)
    caught = 0
    while caught < 3:
        process = start_process(*train)
        while process.poll() is None:
            if list(model_dir.glob("checkpoints/*_temp")):
                process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it finished before the kill"
        caught += bool(list(model_dir.glob("checkpoints/*_temp")))
    done = run_process(*train)
    assert done.returncode == 0, done.stderr.decode()
    assert "is an incomplete checkpoint of a killed process; deleted" in done.stderr.decode()
    assert_same_run_and_checkpoints(model_dir, whole[0])


def test_a_line_of_50_megabytes_is_one_text(run_process, trained):
    stdin = b"a wonderful film " * 3_000_000 + b"\nfine\n"
    done = run_process("predict", f"--model_dir={trained}", "--format=jsonl", stdin=stdin)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)  # the labels
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [len(row["text"]) for row in rows] == [51_000_000, 4]
    assert all(0 < row["probability"] < 1 for row in rows)


def test_300_000_blank_lines_are_as_many_texts(run_process, trained):
    done = run_process("predict", f"--model_dir={trained}", stdin=b"\n" * 300_000)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)  # the labels
    rows = done.stdout.splitlines()
    assert len(rows) == 300_000
    assert len(set(rows)) == 1
