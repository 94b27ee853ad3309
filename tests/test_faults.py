"""What happens to a run when the machine, the disk or a file fails it."""

import dataclasses
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.datasets import open_dataset
from pipeline.errors import RunError, UserError
from tests.conftest import ROOT
from tests.test_end_to_end import scalars, weights_sha256
from tests.test_trainer import data, trainer_of
from trainer import run as runs
from trainer.artifacts.export import export
from trainer.artifacts.trained_run import load
from trainer.runtime.lock import run_lock

__all__ = ["data"]  # a fixture


@pytest.fixture
def warnings(caplog, monkeypatch):
    """What the project logs."""
    monkeypatch.setattr(logging.getLogger("trainer"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)
    return caplog


def copy(model_dir, folder):
    return shutil.copytree(model_dir, folder / "run")


# Two processes


def test_a_second_run_in_the_same_folder_is_refused_and_does_no_harm(start, run, flags, tmp_path):
    train = ("train", f"--model_dir={tmp_path / 'run'}", *flags, "--epochs=200")
    first = start(*train)
    while not (tmp_path / "run" / "config.json").exists():
        assert first.poll() is None
        time.sleep(0.05)
    second = run(*train)
    assert (second.returncode, second.stdout) == (1, b"")
    (line,) = second.stderr.decode().splitlines()
    assert line.startswith(f"error: process {first.pid} on ")
    first.send_signal(signal.SIGTERM)
    _, told = first.communicate(timeout=60)
    assert first.returncode == 143, told
    assert not (tmp_path / "run" / "lock").exists()


def test_a_lock_that_a_dead_process_left_does_not_block(tmp_path):
    folder = tmp_path / "run"
    program = (
        "import os, sys, pathlib; from trainer.runtime.lock import run_lock\n"
        "with run_lock(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert (folder / "lock").read_text().startswith("process ")
    with (
        run_lock(folder),
        pytest.raises(UserError, match=f"process {os.getpid()} on"),
        run_lock(folder),
    ):
        pass
    assert not (folder / "lock").exists()


def test_a_lock_writes_through_no_link(tmp_path):
    (tmp_path / "precious").write_text("as it was")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="lock"), run_lock(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "as it was"


def test_tensorboard_may_read_while_training_writes(start, flags, tmp_path):
    process = start("train", f"--model_dir={tmp_path}", *flags, "--epochs=4")
    folders = [tmp_path / "train", tmp_path / "validation"]
    readers = [EventAccumulator(str(f), size_guidance={"tensors": 0}) for f in folders]
    reads = 0
    while process.poll() is None:
        for folder, reader in zip(folders, readers, strict=True):
            if folder.exists():
                reader.Reload()
                reads += 1
    _, told = process.communicate()
    assert process.returncode == 0, told
    assert reads > 10
    for folder, reader in zip(folders, readers, strict=True):
        reader.Reload()
        read = {(tag, e.step) for tag in reader.Tags()["tensors"] for e in reader.Tensors(tag)}
        assert read >= set(scalars(folder))


# Checkpoints


@pytest.mark.parametrize("list_file", [None, b"", b"\x00garbage", "elsewhere"])
def test_checkpoints_are_what_their_files_say(small_config, data, tmp_path, trained, list_file):
    """TensorFlow's list of them may be lost, damaged, or name a stranger's files to delete."""
    folder = copy(trained[0], tmp_path)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder / "checkpoints", elsewhere)
    for name in ("checkpoints", "best"):
        path = folder / name / "checkpoint"
        lines = [
            f'all_model_checkpoint_paths: "{elsewhere / file.stem}"'
            for file in sorted(elsewhere.glob("*.index"))
        ]
        times = ["all_model_checkpoint_timestamps: 1.0"] * len(lines)
        content = "\n".join([lines[0].removeprefix("all_"), *lines, *times]).encode()
        if list_file is None:
            path.unlink()
        else:
            path.write_bytes(content if list_file == "elsewhere" else list_file)
    before = sorted(path.name for path in elsewhere.iterdir())
    assert load(folder).best_epoch in (1, 2)
    trainer = trainer_of(dataclasses.replace(small_config, epochs=4), data, folder)
    assert int(trainer.state.epoch) == 2
    trainer.fit(folder)
    assert sorted(path.name for path in elsewhere.iterdir()) == before
    assert len(list(folder.glob("checkpoints/*.index"))) == 3


def test_what_a_killed_process_left_half_is_removed(small_config, data, tmp_path, trained):
    folder = copy(trained[0], tmp_path)
    whole = {path.name for path in folder.glob("checkpoints/ckpt-*")}
    for name in ("ckpt-90.data-00000-of-00001", "ckpt-3.index.tempstate12", "ckpt-91_temp/part-0"):
        path = folder / "checkpoints" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    trainer_of(small_config, data, folder)
    assert {path.name for path in folder.glob("checkpoints/ckpt-*")} == whole


def test_a_run_that_has_lost_its_checkpoints_does_not_start_anew(small_config, tmp_path, trained):
    folder = copy(trained[0], tmp_path)
    shutil.rmtree(folder / "checkpoints")
    before = (folder / "history.csv").read_bytes()
    with pytest.raises(RunError, match="a history and no checkpoints to go on from"):
        runs.train(dataclasses.replace(small_config, epochs=3), folder)
    assert (folder / "history.csv").read_bytes() == before


def test_the_best_model_before_serves_when_the_best_is_damaged(tmp_path, trained, warnings):
    """The one before is a copy here, so that its answer is known."""
    folder = copy(trained[0], tmp_path)
    newest = max(folder.glob("best/*.index"), key=lambda path: int(path.stem[5:])).stem
    for path in folder.glob("best/ckpt-*"):
        if path.name.startswith(f"{newest}."):
            shutil.copy(path, path.with_name(path.name.replace(newest, "ckpt-1")))
        else:
            path.unlink()
    paths = sorted(folder.glob("best/*.data-*"))
    os.truncate(folder / "best" / f"{newest}.data-00000-of-00001", 1000)
    assert load(folder).best_epoch == load(trained[0]).best_epoch
    assert f"best/{newest} cannot be read" in warnings.text
    for path in paths:
        os.truncate(path, 1000)
    with pytest.raises(RunError, match="none of the"):
        load(folder)


def test_another_runs_vocabulary_of_the_same_size_is_refused(small_config, tmp_path, trained):
    """By train, and by load, which evaluate, predict and export begin with."""
    folder = copy(trained[0], tmp_path)
    words = (folder / "vocabulary.txt").read_text().splitlines()
    (folder / "vocabulary.txt").write_text("\n".join([*words[1:], words[0]]) + "\n")
    longer = dataclasses.replace(small_config, epochs=3)
    for use in (
        lambda: runs.train(longer, folder),
        lambda: load(folder),
        lambda: export(folder, tmp_path / "saved", "saved_model"),
    ):
        with pytest.raises(UserError, match=r"is not the vocabulary of this run: its SHA-256"):
            use()


def test_a_history_that_is_damaged_is_told_and_one_that_is_short_is_warned_of(
    small_config, data, tmp_path, trained, warnings
):
    folder = copy(trained[0], tmp_path)
    longer = dataclasses.replace(small_config, epochs=3)
    (folder / "history.csv").write_bytes(b"epoch,step\n\x00\xff\n")
    with pytest.raises(
        RunError, match=r"history\.csv is damaged .*put a good copy back, or delete"
    ):
        trainer_of(longer, data, folder).fit(folder)
    (folder / "history.csv").unlink()
    # There are checkpoints, and so it goes on.
    trainer_of(longer, data, folder).fit(folder)
    assert "it has 0 of 2 and goes on without the others" in warnings.text
    assert (folder / "history.csv").read_text().splitlines()[1].startswith("3,")


# The disk, and memory

ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size=$2 tmpfs "$1"
shift 2
exec "$@"
"""


def on_a_small_disk(folder, size, *command):
    """Runs a command that finds a disk of that size at the folder; nobody else sees that disk."""
    shell = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK]
    arguments = map(str, [*shell, "sh", folder, size, *command])
    return subprocess.run(list(arguments), cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path):
    """A folder to put a small disk at; needs Linux' user namespaces."""
    if shutil.which("unshare") is None or on_a_small_disk(tmp_path, "1m", "true").returncode:
        pytest.skip("this system lets nobody mount a small file system")
    return tmp_path


FILL_AND_WRITE = """
import errno, os, pathlib, sys
import tensorflow as tf
from pipeline.errors import RunError
from trainer.runtime.files import translate_disk_full
from trainer.artifacts.run_record import History, write_json
from trainer.monitoring.summaries import Summaries

folder = pathlib.Path(sys.argv[1])
history = History(folder, epochs=0)
summaries = Summaries(folder, first_step=0, words=[], label_names=("neg", "pos"))
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
    except RunError as fault:
        print(name, fault, sep=": ")
assert (folder / "results.json").read_text().count("first") == 1
(folder / "filler").unlink()
for name, write in writes.items():
    write()
print(sorted(path.name for path in folder.iterdir()))
os._exit(0)
"""


def test_a_full_disk_is_told_with_what_was_written_and_what_is_free(disk):
    """Every kind of file a run writes; what was there before stays, and with room all goes well."""
    done = on_a_small_disk(disk, "2m", sys.executable, "-c", FILL_AND_WRITE, disk)
    assert done.returncode == 0, done.stderr
    *told, names = done.stdout.splitlines()
    for line, name, what in zip(
        told,
        ("history", "results", "events", "checkpoint"),
        ("history.csv", "results.json", "events for TensorBoard", "a checkpoint"),
        strict=True,
    ):
        assert line.startswith(f"{name}: the disk is full: {what} cannot be written to {disk}")
        assert re.search(r"where \d\.\d MB are free; make room and type the same command", line)
    assert "history.csv" in names
    assert ".new" not in names


def test_a_run_on_a_full_disk_keeps_its_checkpoints_and_goes_on_when_there_is_room(
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
    assert weights_sha256(kept / "run") == weights_sha256(trained[0])


TRAIN_WITH_LITTLE_MEMORY = """
import re, resource, runpy, sys
import tensorflow as tf
import trainer.loop

fit = trainer.loop.TrainingLoop.fit

def fit_in_100_megabytes(trainer, *arguments, **options):
    batch = tf.ones([2, 8], tf.int32), tf.ones([2])  # tracing has its memory already
    trainer._step.train_steps(iter(tf.data.Dataset.from_tensors(batch)), 1)
    trainer.state.step.assign(0)
    used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
    return fit(trainer, *arguments, **options)

trainer.loop.TrainingLoop.fit = fit_in_100_megabytes
runpy.run_module("scripts.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc how much memory it has")
def test_too_little_memory_is_told_with_the_settings_that_need_it(flags, tmp_path):
    settings = ["--batch_size=320", "--embedding_dim=4096", "--sequence_length=500"]
    model_dir = f"--model_dir={tmp_path / 'run'}"
    command = [sys.executable, "-c", TRAIN_WITH_LITTLE_MEMORY, model_dir, *flags, *settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    told = done.stderr.splitlines()[-1]
    assert "not enough memory for --batch_size=320 and --sequence_length=500" in told
    assert len(list(tmp_path.glob("run/checkpoints/*.index"))) == 1


# Data sets


def half_prepared(folder):
    (folder / "dataset_info.json").unlink()


def truncated(folder):
    for path in folder.glob("*train.tfrecord*"):
        os.truncate(path, path.stat().st_size // 2)


def flipped(folder):
    for path in folder.glob("*train.tfrecord*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def without_files(folder):
    for path in folder.glob("*.tfrecord*"):
        path.unlink()


def garbled(folder):
    (folder / "dataset_info.json").write_text("{")


@pytest.mark.parametrize("damage", [half_prepared, truncated, flipped, without_files, garbled])
def test_a_damaged_data_set_is_told_with_the_command_that_repairs_it(
    small_config, data_dir, tmp_path, damage
):
    shutil.copytree(data_dir, tmp_path / "data")
    folder = next((tmp_path / "data" / "imdb_offline").iterdir())
    damage(folder)
    config = dataclasses.replace(
        small_config, data_dir=str(tmp_path / "data"), cache_dir="", download=False
    )
    with pytest.raises(RunError) as raised:
        runs.train(config, tmp_path / "run")
    told = str(raised.value)
    assert "\n" not in told
    assert re.search(r"rm -r \S+$|--data_dir=FOLDER$", told), told
    assert not (tmp_path / "run").exists()


def test_a_half_downloaded_data_set_is_not_taken_for_a_whole(data_dir, tmp_path):
    """TFDS prepares in a folder of another name, which a kill leaves behind."""
    version = next((data_dir / "imdb_offline").iterdir())
    unfinished = tmp_path / "imdb_offline" / f"{version.name}.incomplete.ABCDEF"
    shutil.copytree(version, unfinished)
    with pytest.raises(RunError, match=r"is not in .*--data_dir=FOLDER"):
        open_dataset("imdb_offline", data_dir=str(tmp_path), download=False)


# Machines


def test_a_run_of_a_gpu_goes_on_and_is_used_on_a_cpu_with_a_warning(
    small_config, tmp_path, trained, warnings
):
    """config.json says mixed_float16, as `auto` chooses on a GPU; the weights are float32."""
    folder = copy(trained[0], tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["precision"] = "mixed_float16"
    (folder / "config.json").write_text(json.dumps(config))
    shutil.rmtree(folder / "checkpoints")
    (folder / "history.csv").unlink()
    used = load(folder)
    assert "was trained in mixed_float16" in warnings.text
    on_cpu = load(trained[0])
    texts = [b"a wonderful film", b"the worst film"]
    np.testing.assert_allclose(used.predict(texts), on_cpu.predict(texts), atol=0.01)
    warnings.clear()
    for epochs in (2, 3):  # begun anew, then gone on with from its checkpoints
        config = dataclasses.replace(small_config, epochs=epochs)
        results = runs.train(config, folder)
        assert "goes on in mixed_float16, as it was begun" in warnings.text
        assert results["epochs"] == epochs


# Strangers


class Executed:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return (os.mkdir, (str(self._path),))


def test_no_pickle_is_loaded(small_config, tmp_path, warnings):
    config = dataclasses.replace(small_config, cache_dir=str(tmp_path / "cache"))
    runs.train(dataclasses.replace(config, epochs=1), tmp_path / "a")
    for path in (tmp_path / "cache").rglob("*.npy"):
        np.save(path, np.array([Executed(tmp_path / "executed")]), allow_pickle=True)
    runs.train(dataclasses.replace(config, epochs=1), tmp_path / "b")
    assert not (tmp_path / "executed").exists()
    assert "is damaged" in warnings.text
    results = [json.loads((tmp_path / n / "results.json").read_text()) for n in ("a", "b")]
    assert results[0] | {"train_seconds": 0} == results[1] | {"train_seconds": 0}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["good", "bad", "good"], "has 'good' twice"),
        (["good", "", "bad"], "has an empty line"),
        (["[UNK]", "good"], r"has '\[UNK\]', which stands for unknown words"),
    ],
)
def test_a_strangers_vocabulary_is_a_plain_error(tmp_path, trained, words, told):
    """It fits its config.json; it still cannot be one of ours."""
    from pipeline.vocabulary import fingerprint

    folder = copy(trained[0], tmp_path)
    (folder / "vocabulary.txt").write_text("".join(f"{word}\n" for word in words))
    content = json.loads((folder / "config.json").read_text())
    content["vocabulary_sha256"] = fingerprint(words)
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=told):
        load(folder)


def test_a_strangers_config_makes_evaluate_write_nowhere(run, tmp_path, trained, cache_dir):
    folder = copy(trained[0], tmp_path)
    content = json.loads((folder / "config.json").read_text())
    content["settings"] |= {
        "cache_dir": str(tmp_path / "cache"),
        "data_dir": str(tmp_path / "data"),
    }
    (folder / "config.json").write_text(json.dumps(content))
    before = sorted(tmp_path.rglob("*"))
    done = run("evaluate", f"--model_dir={folder}", f"--cache_dir={cache_dir}")
    assert (done.returncode, done.stdout) == (2, b"")
    assert "nothing is to be fetched there" in done.stderr.decode()
    assert sorted(tmp_path.rglob("*")) == before


def test_links_in_a_strangers_folder_are_not_written_through(small_config, tmp_path, trained):
    folder = copy(trained[0], tmp_path)
    (tmp_path / "precious").write_text("as it was")
    for name in ("history.csv", "curves.png", "results.json", "config.json"):
        (folder / f"{name}.new").symlink_to(tmp_path / "precious")
    for name in ("history_next.json", "validation/projector_config.pbtxt"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(tmp_path / "precious")
    runs.train(dataclasses.replace(small_config, epochs=3), folder)
    assert (tmp_path / "precious").read_text() == "as it was"
    assert len((folder / "history.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("name", ["train", "validation", "checkpoints", "best"])
def test_a_run_whose_folders_lead_to_another_run_does_not_change_that(
    small_config, tmp_path, trained, name
):
    """Events after its last step would be dropped there, and checkpoints deleted."""
    theirs, ours = copy(trained[0], tmp_path / "theirs"), copy(trained[0], tmp_path / "ours")
    shutil.rmtree(ours / name)
    (ours / name).symlink_to(theirs / name)
    before = {path: path.read_bytes() for path in (theirs / name).iterdir()}
    longer = dataclasses.replace(small_config, epochs=3)
    with pytest.raises(UserError, match=f"{name} is a link"):
        runs.train(longer, ours)
    assert {path: path.read_bytes() for path in (theirs / name).iterdir()} == before


HOSTILE = [
    b"good\x00bad\x00",
    b"\xff\xfe" + "schlecht, ungenießbar".encode("latin-1"),
    "\ud83d".encode("utf-8", "surrogatepass") + b" lone surrogate",
    b"\x1b[31m red \x07",
    b"<" * 10_000,
    b"&" * 10_000 + b"amp;",
    "a\u0300".encode() * 5000,
]


def test_hostile_lines_get_a_probability_each(run, trained):
    stdin = b"\n".join([*HOSTILE, b"a fine film"]) + b"\n"
    done = run("predict", f"--model_dir={trained[0]}", "--format=jsonl", stdin=stdin)
    told = done.stderr.decode().splitlines()
    assert (done.returncode, len(told)) == (0, 1), told
    assert "2 lines of stdin are not UTF-8, the first is line 2" in told[0]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(HOSTILE) + 1
    assert all(0 < row["probability"] < 1 for row in rows)
