"""The commands as users run them."""

import collections
import csv
import dataclasses
import fcntl
import gzip
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline import DATASETS
from tests.conftest import ROOT
from trainer.config import TrainConfig

LOG_LINE = re.compile(r"\d\d:\d\d:\d\d  \S.*")
ODD_REVIEWS = [
    b"",
    b"   ",
    "\U0001f600\U0001f92e".encode(),
    b"a wonderful film " * 6000,
    b"\xff\xfe\x80 bad",
    b"qqqq zzzzz xyzzy",
    b"<br /><p></p>",
    b"good\tbad\\",
]


def scalars(folder):
    """All scalars of a TensorBoard folder: {(tag, step): value}."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    tags = events.SummaryMetadata  # pictures and histograms are in test_summaries.py
    names = [t for t in events.Tags()["tensors"] if tags(t).plugin_data.plugin_name == "scalars"]
    points = [(tag, e) for tag in names for e in events.Tensors(tag)]
    values = {(tag, e.step): tf.make_ndarray(e.tensor_proto).item() for tag, e in points}
    assert len(values) == len(points), "a step is shown twice"
    return values


def weights_sha256(model_dir):
    """The SHA-256 of all that the newest checkpoint holds but the clock."""
    reader = tf.train.load_checkpoint(str(model_dir / "checkpoints"))
    digest = hashlib.sha256()
    for name in sorted(reader.get_variable_to_shape_map()):
        if not re.search("seconds|save_counter|OBJECT_GRAPH", name):
            digest.update(name.encode() + np.asarray(reader.get_tensor(name)).tobytes())
    return digest.hexdigest()


def probabilities(done):
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line)["probability"] for line in done.stdout.splitlines()]


def test_training_leaves_every_file_of_the_contract(trained):
    model_dir, done = trained
    assert {path.name for path in model_dir.iterdir()} == {
        "config.json",
        "vocabulary.txt",
        "checkpoints",
        "best",
        "train",
        "validation",
        "history.csv",
        "curves.png",
        "results.json",
    }
    assert json.loads(done.stdout) == json.loads((model_dir / "results.json").read_text())
    config = json.loads((model_dir / "config.json").read_text())
    vocabulary = (model_dir / "vocabulary.txt").read_bytes()
    assert config["vocabulary_sha256"] == hashlib.sha256(vocabulary).hexdigest()
    assert config["settings"]["batch_size"] == 16
    assert config["versions"]["tensorflow"] == tf.__version__


def test_training_prints_nothing_but_its_own_lines(trained):
    _, done = trained
    lines = done.stderr.decode().splitlines()
    always = [line[10:] for line in lines if not re.search(r"ETA|\d s so far$", line)]
    beginnings = (
        "labels: 0 = neg, 1 = pos (positive)",
        "imdb_offline: reviews: ",
        "CPU, float32, ",
        "compiling the training step",
        "epoch 1/2  train ",
        "epoch 2/2  train ",
        "finished; best epoch ",
    )
    assert len(always) == len(beginnings)
    assert all(map(str.startswith, always, beginnings)), lines
    assert all(LOG_LINE.fullmatch(line) for line in lines), lines


def test_log_tensorboard_history_and_results_tell_the_same(trained):
    model_dir, done = trained
    with (model_dir / "history.csv").open(newline="") as file:
        history = list(csv.DictReader(file))
    epochs = [line for line in done.stderr.decode().splitlines() if "validation loss" in line]
    told = re.findall(r"(\w+) (\d\.\d{4})", " ".join(epochs))
    assert [row["epoch"] for row in history] == ["1", "2"]
    shown = []
    names = ["loss", "accuracy", "auc"]
    for split, measured in (("train", names), ("validation", [*names, "calibration_error"])):
        curves = scalars(model_dir / split)
        for row in history:
            for name in measured:
                value = float(row[f"{split}_{name}"])
                assert np.float32(value) == np.float32(curves[f"epoch/{name}", int(row["step"])])
                shown.append((name, f"{value:.4f}"))
    assert sorted(shown) == sorted(told)
    results = json.loads((model_dir / "results.json").read_text())
    best = min(history, key=lambda row: float(row["validation_loss"]))
    assert results["validation_loss"] == float(best["validation_loss"])
    assert results["best_epoch"] == int(best["epoch"])
    assert results["steps"] == int(history[-1]["step"])


def test_tensorboard_has_the_curves_over_steps(trained):
    model_dir, _ = trained
    curves = scalars(model_dir / "train")
    steps_per_epoch = max(step for _, step in curves) // 2
    expected = sorted({*range(5, steps_per_epoch, 5), steps_per_epoch})
    for name in ("loss", "accuracy", "auc", "learning_rate", "gradient_norm"):
        steps = [step for tag, step in curves if tag == f"step/{name}"]
        assert steps[: len(expected)] == expected
    for name in ("reviews_per_second", "tokens_per_second"):
        values = [value for (tag, _), value in curves.items() if tag == f"step/{name}"]
        assert len(values) == 2 * len(expected)
        assert min(values) > 0


def test_evaluate_agrees_with_results_json(trained, run):
    model_dir, _ = trained
    results = json.loads((model_dir / "results.json").read_text())
    done = run("evaluate", f"--model_dir={model_dir}")
    assert done.returncode == 0
    assert done.stderr == b""
    figures = dict(line.split("\t") for line in done.stdout.decode().splitlines())
    measured = ["loss", "accuracy", "auc", "calibration_error"]
    decided = ["precision", "recall", "f1", "macro_f1", "confusion_matrix", "by_length"]
    assert list(figures) == ["dataset", "split", "examples", *measured, *decided]
    for name, value in figures.items():
        assert value == str(results[name]) or json.loads(value) == results[name]
    as_json = run("evaluate", f"--model_dir={model_dir}", "--format=json")
    assert json.loads(as_json.stdout) == {name: results[name] for name in figures}


def test_evaluate_lists_the_surest_mistakes_and_draws_curves(trained, run, train_reviews, tmp_path):
    model_dir, _ = trained
    folder = tmp_path / "a report"
    arguments = [f"--model_dir={model_dir}", "--split=validation", "--format=json"]
    done = run("evaluate", *arguments, f"--report_dir={folder}")
    assert done.returncode == 0, done.stderr.decode()
    (_, false_positives), (false_negatives, _) = json.loads(done.stdout)["confusion_matrix"]
    with (folder / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == min(100, false_positives + false_negatives)
    sureness = [abs(float(row["probability"]) - 0.5) for row in rows]
    assert sureness == sorted(sureness, reverse=True)
    labels = {text.decode(): label for text, label in train_reviews}
    for row in rows:
        assert row["label"] == ("neg", "pos")[labels[row["text"]]] != row["answer"]
    predicted = run("predict", f"--model_dir={model_dir}", *(row["text"] for row in rows[:5]))
    for row, line in zip(rows, predicted.stdout.decode().splitlines(), strict=False):
        assert line.split("\t")[:2] == [row["answer"], row["probability"]]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_reads_the_data_set_from_where_it_is_told_to(trained, run, data_dir, tmp_path):
    model_dir, _ = trained
    moved = tmp_path / "moved"
    shutil.copytree(data_dir, moved)
    at_home = run("evaluate", f"--model_dir={model_dir}", "--split=validation")
    done = run("evaluate", f"--model_dir={model_dir}", "--split=validation", f"--data_dir={moved}")
    assert (done.returncode, done.stdout) == (0, at_home.stdout)
    for path in moved.rglob("*-train.*"):
        path.unlink()
    done = run("evaluate", f"--model_dir={model_dir}", "--split=validation", f"--data_dir={moved}")
    assert done.returncode == 2
    assert str(moved) in done.stderr.decode()


@pytest.fixture(scope="module")
def trained_with_ngrams(tmp_path_factory, run, flags):
    """As `trained`, with n-grams beside the encoder and punctuation among the tokens."""
    model_dir = tmp_path_factory.mktemp("ngrams")
    settings = ["--ngrams=2", "--punctuation=keep", "--checkpoint_every=1000", "--epochs=1"]
    done = run("train", f"--model_dir={model_dir}", *flags, *settings)
    assert done.returncode == 0, done.stderr.decode()
    return model_dir, done


@pytest.mark.parametrize("model", ["trained", "trained_with_ngrams"])
def test_evaluate_predict_and_the_export_agree_on_each_text(
    model, request, run, tmp_path, small_config
):
    """The SavedModel is read by a process that knows TensorFlow and nothing of this project."""
    from pipeline.datasets import open_dataset

    model_dir, _ = request.getfixturevalue(model)
    reviews = open_dataset("imdb_offline", data_dir=small_config.data_dir, download=False)
    batches = list(reviews.read("test"))
    labels = np.concatenate([labels for _, labels in batches])
    texts = np.concatenate([texts for texts, _ in batches]).tolist()
    texts = [text.replace(b"\n", b" ") for text in texts] + ODD_REVIEWS

    lines = b"".join(text + b"\n" for text in texts)
    predict = ("predict", f"--model_dir={model_dir}", "--format=jsonl")
    predicted = probabilities(run(*predict, stdin=lines))
    done = run("export", f"--model_dir={model_dir}", f"--export_dir={tmp_path / 'saved'}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().strip() == str(tmp_path / "saved")
    program = (
        "import json, sys, tensorflow as tf\n"
        "serve = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "texts = sys.stdin.buffer.read().split(b'\\n')[:-1]\n"
        "print(json.dumps(serve(tf.constant(texts))['probability'].numpy().tolist()))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "saved")]
    served = subprocess.run(command, input=lines, capture_output=True, cwd=tmp_path, check=True)
    np.testing.assert_allclose(predicted, json.loads(served.stdout), atol=1e-5)

    assert np.isfinite(predicted).all()
    assert np.ptp(predicted) > 0.01
    results = json.loads((model_dir / "results.json").read_text())
    of_test = np.array(predicted[: len(labels)])
    assert np.mean((of_test > 0.5) == labels) == pytest.approx(results["accuracy"])
    loss = -np.mean(np.log(np.where(labels, of_test, 1 - of_test)))
    assert loss == pytest.approx(results["loss"], abs=1e-5)


def test_predict_answers_in_order_one_row_a_review(trained, run):
    model_dir, _ = trained
    texts = ["a\tb", "worst film", "a\nb", "", "back\\slash"]
    done = run("predict", f"--model_dir={model_dir}", "--", *texts)
    assert (done.returncode, done.stderr) == (0, b"")
    rows = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert [row[2] for row in rows] == [r"a\tb", "worst film", r"a\nb", "", r"back\\slash"]
    for label, probability, _ in rows:
        assert label == ("pos" if float(probability) > 0.5 else "neg")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt.gz"])
def test_predict_reads_and_writes_files(trained, run, tmp_path, name):
    texts = ["a fine, fine film", "the worst", "", "caf\u00e9"]
    path, output = tmp_path / name, tmp_path / "answers.jsonl"
    if "txt" in name:
        path.write_bytes(gzip.compress("\n".join(texts).encode() + b"\n"))
    elif "json" in name:
        path.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if "tsv" in name else ",")
            writer.writerows([["id", "body"], *enumerate(texts)])
    arguments = [f"--model_dir={trained[0]}", "--format=jsonl", f"--input={path}"]
    done = run("predict", *arguments, "--text_column=body", f"--output={output}")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    typed = run("predict", f"--model_dir={trained[0]}", "--format=jsonl", "--", *texts)
    assert output.read_bytes() == typed.stdout
    assert [json.loads(line)["text"] for line in typed.stdout.splitlines()] == texts


def test_predict_writes_no_half_an_output(trained, run, tmp_path):
    path, output = tmp_path / "a.jsonl", tmp_path / "answers.tsv"
    path.write_text('{"text": "fine"}\n{"body": "no text"}\n')
    done = run("predict", f"--model_dir={trained[0]}", f"--input={path}", f"--output={output}")
    assert done.returncode == 1
    assert f"{path}:2: no text in 'text'; is --text_column=text right?" in done.stderr.decode()
    assert not output.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_and_killed_ends_in_the_same_bits(
    trained, start, run, flags, tmp_path, number
):
    whole, _ = trained
    train = ("train", f"--model_dir={tmp_path / 'run'}", *flags)

    def newest():
        files = (tmp_path / "run" / "checkpoints").glob("ckpt-*.index")
        return max((int(file.stem[5:]) for file in files), default=0)

    def wait_for(checkpoint):
        deadline = time.monotonic() + 120
        while newest() < checkpoint:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    stopped = start(*train)
    wait_for(2)  # the first is of step 0
    stopped.send_signal(number)
    _, told = stopped.communicate(timeout=120)
    assert stopped.returncode == 128 + number
    assert (
        f"stopped by {number.name}, everything is saved; to resume: {sys.executable} -m scripts.train"
        in (told.decode().splitlines()[-1])
    )
    if number == signal.SIGTERM:
        killed = start(*train)
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
            {key: v for key, v in scalars(f / split).items() if "per_second" not in key[0]}
            for f in (tmp_path / "run", whole)
        )
        assert curves == expected
    ours, theirs = (json.loads((f / "results.json").read_text()) for f in (tmp_path / "run", whole))
    assert ours | {"train_seconds": 0} == theirs | {"train_seconds": 0}


def test_the_test_split_is_not_read_before_training_has_ended(
    trained, run, flags, data_dir, tmp_path
):
    """Without it, all epochs are trained and recorded as ever; only then is it missed."""
    shutil.copytree(data_dir, tmp_path / "data")
    for path in (tmp_path / "data").rglob("*-test.*"):
        path.unlink()
    model_dir = tmp_path / "run"
    done = run("train", f"--model_dir={model_dir}", *flags, f"--data_dir={tmp_path / 'data'}")
    assert done.returncode == 2
    assert re.search(r"^error: imdb_offline cannot be read .*rm -r ", done.stderr.decode(), re.M)
    assert not (model_dir / "results.json").exists()
    for name in ("history.csv", "vocabulary.txt"):
        assert (model_dir / name).read_bytes() == (trained[0] / name).read_bytes()


def test_the_vocabulary_is_of_the_training_part_alone(trained, small_config):
    """The words of the file, and their order, follow from the training texts."""
    from pipeline.datasets import hash_buckets, in_validation, open_dataset
    from pipeline.vocabulary import standardize

    reviews = open_dataset("imdb_offline", data_dir=small_config.data_dir, download=False)
    texts = np.concatenate([texts for texts, _ in reviews.read("train")])
    texts = texts[~in_validation(hash_buckets(texts), validation_fraction=0.2)]
    texts = standardize(texts).numpy()
    counts = collections.Counter(b" ".join(texts).decode().split())
    words = (trained[0] / "vocabulary.txt").read_text().splitlines()
    frequencies = [counts[word] for word in words]
    assert all(frequencies)
    assert frequencies == [n for _, n in counts.most_common(len(words))]


def test_a_bar_with_an_estimate_on_a_terminal(start, flags, tmp_path):
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 40, 160, 0, 0))
    process = start("train", f"--model_dir={tmp_path / 'run'}", *flags, stderr=end)
    os.close(end)
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        shown += chunk
    process.communicate()
    assert process.returncode == 0
    assert re.search(r"epoch 2/2: +\d+%\|.*\| \d+/\d+ \[\d\d:\d\d<\d\d:\d\d", shown.decode())


@pytest.mark.parametrize(
    ("script", "arguments", "told", "code"),
    [
        ("train", ["--dataset=imdb"], f"({', '.join(DATASETS)}) nor a file", 1),
        ("train", ["--epoch=3"], "Did you mean: epochs", 1),
        ("train", ["--epochs=0"], "--epochs=0 is out of range; it must be at least 1", 1),
        ("train", ["--epochs=many"], "--epochs=many", 1),
        ("train", ["--validation_fraction=1"], "--validation_fraction=1.0 is out of range", 1),
        ("train", ["epochs=3"], "'epochs=3' is not a flag; write --name=value", 1),
        ("train", ["--flagfile=none.flags"], "none.flags", 1),
        ("train", ["--model_dir="], "--model_dir=runs/NAME", 1),
        ("train", ["--dataset=imdb_reviews", "--nodownload", "--data_dir={}/no"], "--data_dir", 2),
        ("train", ["--dataset=imdb_reviews", "--data_dir={}/no"], "--dataset=imdb_offline", 2),
        (
            "predict",
            ["fine"],
            "holds no run (no config.json); train one: python -m scripts.train",
            1,
        ),
        ("evaluate", [], "holds no run", 1),
        ("evaluate", ["--split=all"], "train|validation|test", 1),
        ("export", [], "holds no run", 1),
        ("train", ["--dataset=gs://b/r.csv"], "--dataset=gs://b/r.csv is not in a file system", 1),
        ("export", ["--export_dir=gs://b/e"], "--export_dir=gs://b/e is not in a file", 1),
        ("predict", ["--format=xml"], "tsv|jsonl", 1),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_written(
    run, tmp_path, script, arguments, told, code
):
    arguments = [argument.format(tmp_path) for argument in arguments]
    # No way out, so that a data set cannot be downloaded on any machine.
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    environment = {**os.environ, **nowhere}
    done = run(script, f"--model_dir={tmp_path / 'run'}", *arguments, env=environment)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == code, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert told in lines[0]
    assert done.stdout == b""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--vocab_size=600", "vocab_size (500, not 600)"),
        ("--dataset=imdb_reviews", "dataset (imdb_offline, not imdb_reviews)"),
        ("--seed=5", "seed (0, not 5)"),
    ],
)
def test_settings_that_disagree_with_the_run_are_refused(trained, run, flags, argument, told):
    model_dir, _ = trained
    before = {path: path.stat().st_mtime_ns for path in model_dir.rglob("*")}
    done = run("train", f"--model_dir={model_dir}", *flags, argument)
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, len(lines)) == (1, 1), lines
    assert told in lines[0]
    assert {path: path.stat().st_mtime_ns for path in model_dir.rglob("*")} == before


@pytest.mark.parametrize(
    "script", ["train", "pretrain", "evaluate", "predict", "export", "benchmark", "compare"]
)
def test_help_is_for_people_and_loads_nothing_heavy(run, script):
    done = run(script, "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"python -m scripts.{script}" in done.stdout.decode()
    assert ("--model_dir" in done.stdout.decode()) == (script not in ("benchmark", "compare"))
    program = f"import sys, scripts.{script}; print('tensorflow' in sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT)
    assert loaded.strip() == b"False"


def test_help_of_train_has_all_settings_in_groups_and_its_reader_may_go(start, run):
    told = run("train", "--help").stdout.decode()
    for field in dataclasses.fields(TrainConfig):
        assert (f"  --{field.name}=" in told) == field.metadata["is_flag"]
    assert told.index("how it learns:") < told.index("--batch_size") < told.index("how it runs:")
    assert max(map(len, told.splitlines())) <= 100
    reading, writing = os.pipe()
    os.close(reading)
    process = start("train", "--help", stdout=writing)
    os.close(writing)
    assert (process.communicate()[1], process.returncode) == (b"", 0)


def test_commands_work_from_any_folder_with_paths_from_home(trained, run, tmp_path, data_dir):
    """A folder with a space in its name, and a home whose paths are written with ~."""
    home, elsewhere = trained[0].parent, tmp_path / "some where"
    elsewhere.mkdir()
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    folder = f"--model_dir=~/{trained[0].name}"
    done = run("predict", folder, "fine", cwd=elsewhere, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    settings = ["--split=validation", "--report_dir=a report", f"--data_dir={data_dir}"]
    done = run("evaluate", folder, *settings, cwd=elsewhere, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    assert (elsewhere / "a report" / "errors.csv").is_file()


def test_each_recipe_is_made_of_settings_that_exist(run):
    for recipe in (ROOT / "scripts" / "recipes").glob("*.flags"):
        command = recipe.read_text().splitlines()[0]
        script = re.match(r"# python -m scripts\.(train|pretrain) --model_dir=runs/", command)[1]
        assert f"--flagfile=scripts/recipes/{recipe.name}" in command
        done = run(script, f"--flagfile={recipe}", "--model_dir=")
        assert b"--model_dir=runs/NAME" in done.stderr
