"""A full disk."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.helpers import weights_sha256
from tests.small import ROOT

ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size=$2 tmpfs "$1"
shift 2
exec "$@"
"""


def on_a_small_disk(folder, size, *command):
    """Runs a command that sees a disk of that size mounted at the folder."""
    shell = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK]
    arguments = map(str, [*shell, "sh", folder, size, *command])
    return subprocess.run(list(arguments), cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path):
    """A folder where a small disk can be mounted; needs Linux' user namespaces."""
    if shutil.which("unshare") is None or on_a_small_disk(tmp_path, "1m", "true").returncode:
        pytest.skip("this system does not allow mounting a small file system")
    return tmp_path


FILL_AND_WRITE = """
import errno, os, pathlib, sys
import tensorflow as tf
from pipeline.errors import RunError
from trainer.runtime.files import translate_disk_full
from trainer.monitoring.history import History
from trainer.runtime.files import write_json
from trainer.monitoring.summaries import Summaries

folder = pathlib.Path(sys.argv[1])
history = History(folder, epochs=0)
summaries = Summaries(folder, first_step=0, token_names=[], label_names=("neg", "pos"))
values = {f"{s}_{n}": 0.5 for s in ("train", "validation") for n in ("loss", "accuracy")}
variable = tf.Variable(tf.zeros([100_000]))
manager = tf.train.CheckpointManager(tf.train.Checkpoint(v=variable), str(folder / "c"), 3)

def write_events():
    for step in range(100):
        summaries.write("train", "step", values, step=step)
    summaries.flush()

def save():
    with translate_disk_full("a checkpoint", folder):
        manager.save()

writes = {
    "history": lambda: history.append({"epoch": 1, "step": 1, **values}),
    "results": lambda: write_json({"a": "b" * 10_000}, folder / "results.json"),
    "events": write_events,
    "checkpoint": save,
}
write_json({"a": "first"}, folder / "results.json")
with open(folder / "filler", "wb", buffering=0) as filler:
    try:
        while True:
            filler.write(bytes(4096))
    except OSError as error:
        assert error.errno == errno.ENOSPC
for name, write in writes.items():
    try:
        write()
    except RunError as error:
        print(name, error, sep=": ")
assert (folder / "results.json").read_text().count("first") == 1
(folder / "filler").unlink()
for name, write in writes.items():
    write()
print(sorted(path.name for path in folder.iterdir()))
os._exit(0)
"""


def test_a_full_disk_error_names_the_file_and_the_free_space(disk):
    """For each kind of file of a run. Old files stay; with free space the writes succeed."""
    done = on_a_small_disk(disk, "2m", sys.executable, "-c", FILL_AND_WRITE, disk)
    assert done.returncode == 0, done.stderr
    *messages, names = done.stdout.splitlines()
    for line, name, content in zip(
        messages,
        ("history", "results", "events", "checkpoint"),
        ("history.csv", "results.json", "events for TensorBoard", "a checkpoint"),
        strict=True,
    ):
        assert line.startswith(f"{name}: the disk is full: {content} cannot be written to {disk}")
        assert re.search(r"where \d\.\d MB are free; make room and run the same command", line)
    assert "history.csv" in names
    assert ".new" not in names


@pytest.mark.slow
def test_a_run_on_a_full_disk_keeps_its_checkpoints_and_resumes_when_there_is_space(
    disk, flags, trained, tmp_path_factory
):
    kept = tmp_path_factory.mktemp("kept")
    program = """
    model_dir=$1 kept=$2; shift 2
    set +e
    "$@" > /dev/null 2> "$kept/stderr"
    echo $?
    ls "$model_dir/checkpoints" | grep index
    mount -o remount,size=100m "$(dirname "$model_dir")"
    "$@" > /dev/null 2>&1
    echo $?
    cp -r "$model_dir" "$kept/run"
    """
    model_dir = disk / "run"
    train = (sys.executable, "-m", "scripts.train", f"--model_dir={model_dir}", *flags)
    done = on_a_small_disk(disk, "6m", "sh", "-c", program, "sh", model_dir, kept, *train)
    code, *indexes, again = done.stdout.splitlines()
    assert (code, again) == ("2", "0"), (done, (kept / "stderr").read_text())
    assert indexes
    last = (kept / "stderr").read_text().splitlines()[-1]
    assert re.match(r"error: the disk is full: .* cannot be written to .* MB are free", last)
    assert weights_sha256(kept / "run") == weights_sha256(trained)
