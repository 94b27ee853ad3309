"""The measured tables of docs/results.md are those of the JSON files in docs/measurements/."""

import importlib
import json
import re
import subprocess
import sys

import pytest

from scripts.dev import compare, results_page
from scripts.dev.measure import records
from scripts.dev.measure.records import Recorder, format_command
from tests.small import ROOT, flags_of

PAGE = """\
# Results

<!-- speed: begin -->
old speed
<!-- speed: end -->

Text between.

<!-- comparison: begin -->
old comparison
<!-- comparison: end -->
"""
ORIGIN = {"commit": "abc1234", "date": "2026-11-28", "processor": "2 cores of a Processor"}
SPEED = {
    "command": "python -m scripts.dev.benchmark --repeats=2",
    **ORIGIN,
    "results": {
        "training": [{"seconds": 10.0}, {"seconds": 12.0}],
        "keras training": [{"seconds": 44.0}],
        "input": [],  # the run was interrupted
    },
}
METRICS = {"macro_f1": 0.9, "auc": 0.95, "loss": 0.25, "calibration_error": 0.01}
COMPARISON = {
    "command": "python -m scripts.dev.compare --methods=NB-SVM,fast",
    **ORIGIN,
    "results": {
        "imdb_offline": {
            "fast": [
                {"seconds": 20.0, "accuracy": accuracy, **METRICS} for accuracy in (0.9, 0.92)
            ],
            "NB-SVM": [{"seconds": 3.0, "accuracy": 0.8, "macro_f1": 0.8, "auc": 0.9}],
        }
    },
}
FINE_TUNING = {
    "command": "python -m scripts.dev.fine_tuning --steps=2",
    **ORIGIN,
    "results": {"ours": [{"one text, ms": 12.0}], "pytorch": [{"one text, ms": 10.0}]},
}


@pytest.fixture
def docs(tmp_path, monkeypatch):
    """A folder with a page, in place of docs/."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "results.md").write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(results_page, "PAGE", folder / "results.md")
    monkeypatch.setattr(results_page, "MEASUREMENTS", folder / "measurements")
    return folder


def write(folder, name, record):
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


def test_the_results_page_is_current():
    files = sorted(results_page.MEASUREMENTS.glob("*.json"))
    found = {path.stem: records.read_record(path) for path in files}
    page = results_page.PAGE.read_text(encoding="utf-8")
    is_current = results_page.format_page(page, found) == page
    assert is_current, "run: python -m scripts.dev.results_page"


def test_a_file_changes_exactly_its_block(run, docs, tmp_path):
    path = write(tmp_path, "speed", SPEED)
    done = run("dev.results_page", path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"docs/measurements/speed.json changed\ndocs/results.md changed\n"
    block = """\

|  | seconds | relative to Keras |
|---|---|---|
| training | 11.00 | 0.25 |
| keras training | 44.00 | 1.00 |

```sh
.venv/bin/python -m scripts.dev.benchmark --repeats=2
```

Measured on 2026-11-28 at commit `abc1234`, on 2 cores of a Processor.

"""
    expected = PAGE.replace("old speed\n", block)
    assert (docs / "results.md").read_text(encoding="utf-8") == expected
    assert (docs / "measurements" / "speed.json").read_bytes() == path.read_bytes()


def test_blocks_are_written_again_from_the_copied_files(run, docs, tmp_path):
    run("dev.results_page", write(tmp_path, "speed", SPEED))
    written = (docs / "results.md").read_text(encoding="utf-8")
    assert run("dev.results_page").stdout == b""
    edited = written.replace("| 11.00 |", "| 10.00 |").replace("Text between", "Other text")
    (docs / "results.md").write_text(edited, encoding="utf-8")
    assert run("dev.results_page").stdout == b"docs/results.md changed\n"
    expected = written.replace("Text between", "Other text")
    assert (docs / "results.md").read_text(encoding="utf-8") == expected


def test_a_comparison_has_means_and_its_fastest_method_first(run, docs, tmp_path):
    run("dev.results_page", write(tmp_path, "comparison", COMPARISON))
    page = (docs / "results.md").read_text(encoding="utf-8")
    assert "old speed" in page
    rows = [line for line in page.splitlines() if line.startswith("| imdb_offline |")]
    assert rows == [
        "| imdb_offline | NB-SVM | 3.0 | 0.8000 | 0.8000 | 0.9000 | - | - | 1 |",
        "| imdb_offline | **`fast.flags`** | 20.0 | 0.9100 ± 0.0141 | 0.9000 | 0.9500 | 0.2500 "
        "| 0.0100 | 2 |",
    ]


@pytest.mark.parametrize(
    ("pytorch", "table"),
    [
        ([{"one text, ms": 10.0}], "|  | ours | pytorch | ratio |\n|---|---|---|---|\n"),
        ([], "|  | ours |\n|---|---|\n"),  # the run was interrupted
    ],
)
def test_fine_tuning_has_a_column_for_each_program(pytorch, table):
    record = FINE_TUNING | {"results": FINE_TUNING["results"] | {"pytorch": pytorch}}
    page = results_page.format_page(PAGE, {"speed": record})
    row = "| one text, ms | 12 | 10 | 1.20 |\n" if pytorch else "| one text, ms | 12 |\n"
    assert table + row in page


def test_a_file_without_a_block_is_an_error_and_nothing_is_written(run, docs, tmp_path):
    files = [write(tmp_path, "speed", SPEED), write(tmp_path, "on_a_gpu", SPEED)]
    done = run("dev.results_page", *files)
    assert done.returncode == 1
    message = "add two lines where its table belongs: <!-- on_a_gpu: begin --> and"
    assert message in done.stderr.decode()
    assert (docs / "results.md").read_text(encoding="utf-8") == PAGE
    assert not (docs / "measurements").exists()


@pytest.mark.usefixtures("docs")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no file that --json of benchmark, compare or fine_tuning wrote"),
        (json.dumps(SPEED["results"]), "is no file that --json of benchmark"),
        (json.dumps(SPEED | {"command": "python -m scripts.train"}), "no table is known for"),
    ],
)
def test_other_files_are_an_error(run, tmp_path, content, message):
    (tmp_path / "speed.json").write_text(content, encoding="utf-8")
    done = run("dev.results_page", tmp_path / "speed.json")
    assert done.returncode == 1
    assert message in done.stderr.decode()


@pytest.fixture
def parsed(monkeypatch):
    """Parses flags of compare, as if they were those of this process."""

    def parse(*arguments):
        monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments)])
        compare.FLAGS(sys.argv)

    with flags_of(compare):
        yield parse


def test_a_recorder_writes_after_each_measurement(parsed, tmp_path, monkeypatch):
    path = tmp_path / "comparison.json"
    parsed("--methods=fast", f"--json={path}")
    outputs = {"rev-parse": "abc1234", "diff": ""}
    monkeypatch.setattr(records, "_run_git", lambda name, *_: outputs[name])
    recorder = Recorder("scripts.dev.compare")
    recorder.write({"first": 1})
    first = records.read_record(path)
    assert first["command"] == "python -m scripts.dev.compare --methods=fast"
    assert (first["commit"], first["results"]) == ("abc1234", {"first": 1})
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", first["date"])
    assert re.match(r"\d+ cores? of .", first["processor"])
    outputs["diff"] = "model/lstm.py"
    recorder.write({"first": 1, "second": 2})
    second = records.read_record(path)
    assert (second["commit"], second["results"]["second"]) == ("abc1234+changes", 2)
    assert [file.name for file in tmp_path.iterdir()] == ["comparison.json"]


def test_the_commit_is_that_of_the_code(parsed, tmp_path, monkeypatch):
    def git(*arguments):
        names = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
        subprocess.run(["git", *names, *arguments], cwd=tmp_path, check=True, capture_output=True)

    parsed(f"--json={tmp_path / 'docs' / 'speed.json'}")
    monkeypatch.setattr(records, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    assert Recorder("scripts.dev.compare")._describe_commit() == "unknown"
    for name in ("code.py", "docs/page.md"):
        (tmp_path / name).write_text("before", encoding="utf-8")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    recorder = Recorder("scripts.dev.compare")
    head = recorder._describe_commit()
    assert re.fullmatch("[0-9a-f]{7,}", head)
    (tmp_path / "docs" / "page.md").write_text("after", encoding="utf-8")
    assert recorder._describe_commit() == head
    (tmp_path / "code.py").write_text("after", encoding="utf-8")
    assert recorder._describe_commit() == f"{head}+changes"
    git("commit", "--quiet", "--all", "--message=second")
    assert recorder._describe_commit() == f"{head}+changes"


def test_a_command_has_no_files_of_one_machine(parsed):
    arguments = ["--methods", "NB-SVM,TF-IDF of words", "--pretrained=/models/minilm"]
    arguments += ["--dataset=~/my data.csv", "--seeds=1"]
    private = ["--json=a.json", "--picture", "b.png", "--data_dir=/data", "--cache_dir=/cache"]
    recipe = ROOT / "scripts" / "recipes" / "fast.flags"
    parsed(*arguments)
    command = format_command(
        "scripts.dev.compare", [*private, *arguments, f"--flagfile={recipe}", "--class_weight="]
    )
    assert command == (
        "python -m scripts.dev.compare --methods='NB-SVM,TF-IDF of words' --pretrained=minilm "
        "--dataset='my data.csv' --seeds=1 --flagfile=scripts/recipes/fast.flags --class_weight="
    )


def test_a_missing_folder_of_json_is_an_error_before_the_measurements(run, flags, tmp_path):
    done = run("dev.compare", "--methods=NB-SVM", f"--json={tmp_path}/none/a.json", *flags)
    assert done.returncode == 1
    assert "there is no folder" in done.stderr.decode()


@pytest.mark.parametrize(
    ("command", "function", "arguments", "results"),
    [
        ("benchmark", "_measure_in_process", ["--sections=input"], {"input": [{"seconds": 1}]}),
        (
            "compare",
            "_measure_in_process",
            ["--methods=fastText", "--dataset=imdb_offline"],
            {"imdb_offline": {"fastText": [{"seconds": 1}]}},
        ),
        (
            "fine_tuning",
            "measure_in_process",
            ["--pretrained=/models/minilm", "--ngrams=0", "--encoder_length=0", "--truncate=head"],
            {"ours": [{"seconds": 1}], "pytorch": []},
        ),
    ],
)
def test_an_interrupted_run_keeps_its_measurements(
    run, data_flags, tmp_path, monkeypatch, command, function, arguments, results
):
    module = importlib.import_module(f"scripts.dev.{command}")
    # fine_tuning measures this project in two processes.
    measured = [{"seconds": 1}] * (2 if command == "fine_tuning" else 1)

    def measure(*_):
        if not measured:
            raise KeyboardInterrupt
        return measured.pop()

    monkeypatch.setattr(module, function, measure)
    path = tmp_path / "speed.json"
    done = run(f"dev.{command}", *data_flags, *arguments, f"--json={path}")
    assert done.returncode == 130, done.stderr
    assert records.read_record(path)["results"] == results
