"""predict reads files by the run's settings, and copies columns into its output."""

import csv
import io
import json
import os
import re
import subprocess
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from scripts import evaluate
from tests.small import ROOT
from trainer.artifacts.trained_run import load
from trainer.config import TrainConfig
from trainer.run import train
from trainer.runtime.signals import StopSignals

WORDS = {"schlecht": ("awful", "boring", "dull"), "gro\u00dfartig": ("great", "moving", "fun")}
ROWS = [
    (f"caf\u00e9 {words[number % 3]} film {words[number % 2]} n{number}", label, number)
    for number in range(40)
    for label, words in WORDS.items()
]


def table(rows, header, delimiter=";"):
    content = io.StringIO(newline="")
    csv.writer(content, delimiter=delimiter).writerows([header, *rows])
    return content.getvalue()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The model_dir of a run on a file with an unusual column, delimiter and encoding."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "a.csv").write_text(table(ROWS, ("body", "label", "id")), encoding="cp1252")
    config = TrainConfig(
        dataset=str(folder / "a.csv"),
        text_column="body",
        encoding="cp1252",
        encoder="pooled_lstm",
        units=4,
        embedding_dim=4,
        epochs=1,
        vocab_size=200,
        cache_dir="",
    )
    with StopSignals():
        train(config, folder / "run")
    return folder / "run"


@pytest.fixture
def predict(own, call, capfdbinary):
    """Runs predict on that run; returns exit code, stdout <bytes> and stderr."""

    def predict(*arguments):
        code = call("predict", f"--model_dir={own}", *arguments)
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return predict


@pytest.mark.slow
def test_labels_of_another_encoding_reach_predictions_and_report(own):
    assert set(load(own).label_names) == set(WORDS)
    assert (own / "curves.png").is_file()


def test_flags_override_the_settings_of_the_run(predict, own):
    file = own.parent / "a.csv"
    code, out, err = predict(
        f"--input={file}", "--keep_columns=id", "--format=jsonl", "--verbosity=0"
    )
    assert code == 0, err
    assert "with the settings of the run: --encoding=cp1252" in err
    predictions = [json.loads(line) for line in out.splitlines()]
    assert [(row["text"], row["id"]) for row in predictions] == [
        (text, str(n)) for text, _, n in ROWS
    ]
    other = own.parent / "other.tsv"
    other.write_text(table([("a great caf\u00e9", 7)], ("words", "id"), "\t"))
    flags = (f"--input={other}", "--text_column=words", "--encoding=utf-8", "--keep_columns=id")
    code, out, err = predict(*flags)
    assert (code, err) == (0, "")
    assert out.decode().split("\t")[2:] == ["a great caf\u00e9", "7\n"]


def test_input_errors_are_one_line_without_flags_of_other_commands(predict, own):
    file = own.parent / "no_column.csv"
    file.write_text("text,x\nfine,1\n")
    code, out, err = predict(f"--input={file}")
    assert (code, out) == (1, b"")
    message = err.splitlines()[-1]
    assert "has no column 'body', but 'text', 'x'" in message
    assert "--label_column" not in message
    for arguments, expected in (
        (["--keep_columns=label", f"--input={own.parent / 'a.csv'}"], "'label' is a name that"),
        (["--keep_columns=id", "fine"], "--keep_columns needs a file with columns"),
        ([f"--input={own.parent}"], "is a folder"),
        ([f"--output={own.parent}", "fine"], "is a folder"),
        ([f"--output={file}", f"--input={file}"], "is the --input"),
        (["--encoding=x\n\x1b[31m" + "y" * 999, f"--input={file}"], r"--encoding='x\n\x1b[31myy"),
    ):
        code, out, err = predict(*arguments)
        assert (code, out) == (1, b""), err
        assert expected in err.splitlines()[-1]
        assert len(err.splitlines()[-1]) < 300 + 2 * len(str(file))
    assert file.read_text() == "text,x\nfine,1\n"


def test_a_bad_row_is_an_error_or_skipped(predict, own):
    file, output = own.parent / "bad.csv", own.parent / "predictions.tsv"
    file.write_text("body,id\nfine,1\na,b,c\ngreat,2\n")
    flags = (f"--input={file}", "--keep_columns=id", f"--output={output}")
    code, out, err = predict(*flags)
    assert (code, out) == (1, b"")
    assert f"{file}:3: more fields than the header has; to skip such rows: --skip_bad_rows" in err
    assert not output.exists()
    code, out, err = predict(*flags, "--skip_bad_rows")
    assert (code, out) == (0, b"")
    assert "skipped 1 rows" in err
    rows = [line.split("\t") for line in output.read_text().splitlines()]
    assert [row[2:] for row in rows] == [["fine", "1"], ["great", "2"]]


def test_texts_may_begin_with_a_dash(predict):
    texts = ["-1 out of 10", "great", "-5", "- no", "--- what a film", "-=-"]
    code, out, err = predict(*texts)
    assert (code, err) == (0, "")
    assert [line.split("\t")[2] for line in out.decode().splitlines()] == texts
    code, out, err = predict("--terrible", "great")
    assert (code, out) == (1, b"")
    assert "Unknown command line flag 'terrible'" in err
    assert "put -- before a text that begins with a dash" in err
    code, out, _ = predict("--format", "jsonl", "--", "--terrible")
    assert (code, json.loads(out)["text"]) == (0, "--terrible")


def test_a_dash_means_stdin_and_stdout(predict, monkeypatch):
    stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"great\n-\n")))
    monkeypatch.setattr(sys, "stdin", stdin)
    code, out, err = predict("--input=-", "--output=-")
    assert (code, err) == (0, "")
    assert [line.split("\t")[2] for line in out.decode().splitlines()] == ["great", "-"]


@pytest.mark.parametrize(
    ("closed", "arguments", "code", "expected"),
    [
        ("<&-", "", 1, "stdin is closed"),
        pytest.param("<&-", "great", 0, None, marks=pytest.mark.slow),
        (">&-", "great", 1, "stdout is closed"),
        pytest.param("2>&-", "great", 0, None, marks=pytest.mark.slow),
        pytest.param("<&- >&- 2>&-", "great --output=out.tsv", 0, None, marks=pytest.mark.slow),
        ("<&- >&- 2>&-", "--input=no", 1, None),
    ],
)
def test_closed_standard_streams_cause_no_traceback(
    own, tmp_path, closed, arguments, code, expected
):
    command = f'"$0" -m scripts.predict --model_dir="$1" {arguments} {closed}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, own],
        capture_output=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr.decode()
    if expected:
        assert done.stderr.decode().count("\n") == 1
        assert expected in done.stderr.decode()
    else:  # only the order of the labels is logged
        assert all(b"  labels: 0 = " in line for line in done.stderr.splitlines())
    if "out.tsv" in arguments:
        assert (tmp_path / "out.tsv").read_text().endswith("\tgreat\n")


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "text;label\n1;2\n",
        "body;label\n",
        "body;label\nonly;\n",
        "body;label\n\u4f60\u597d\u4f60\u597d;x\n",
    ],
)
def test_evaluate_names_only_flags_that_it_has(own, call, capsys, content):
    file = own.parent / "a.csv"
    before = file.read_bytes()
    try:
        file.unlink() if content is None else file.write_bytes(content.encode())
        assert call("evaluate", f"--model_dir={own}") == 1
        (line,) = capsys.readouterr().err.splitlines()
    finally:
        file.write_bytes(before)
    assert str(file) in line
    flags = {*evaluate._DATA_SETTINGS, "model_dir", "cache_dir", "report_dir"}
    assert set(re.findall(r"--(\w+)", line)) <= flags


def test_two_text_columns_of_a_parquet_file(predict, tmp_path):
    table = pa.table({"title": ["caf\u00e9", None], "body": ["awful", "great"], "id": [1, 2]})
    parquet.write_table(table, tmp_path / "a.parquet")
    arguments = (f"--input={tmp_path / 'a.parquet'}", "--keep_columns=id")
    code, out, _ = predict(*arguments, "--text_column=title,body")
    rows = [line.split("\t")[2:] for line in out.decode().splitlines()]
    assert (code, rows) == (0, [["caf\u00e9 awful", "1"], ["great", "2"]])
    code, out, _ = predict(*arguments)
    assert [line.split("\t")[2] for line in out.decode().splitlines()] == ["awful", "great"]
    code, _, err = predict(*arguments, "--text_column=title,")
    assert (code, "--text_column" in err) == (1, True)
