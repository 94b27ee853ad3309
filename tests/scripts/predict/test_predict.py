"""predict: its rows, files and output."""

import csv
import gzip
import json

import pytest


def test_predict_writes_one_row_per_text_in_order(trained, run):
    model_dir = trained
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
    arguments = [f"--model_dir={trained}", "--format=jsonl", f"--input={path}"]
    done = run("predict", *arguments, "--text_column=body", f"--output={output}")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    typed = run("predict", f"--model_dir={trained}", "--format=jsonl", "--", *texts)
    assert output.read_bytes() == typed.stdout
    assert [json.loads(line)["text"] for line in typed.stdout.splitlines()] == texts


def test_predict_writes_no_partial_output(trained, run, tmp_path):
    path, output = tmp_path / "a.jsonl", tmp_path / "predictions.tsv"
    path.write_text('{"text": "fine"}\n{"body": "no text"}\n')
    done = run("predict", f"--model_dir={trained}", f"--input={path}", f"--output={output}")
    assert done.returncode == 1
    assert f"{path}:2: no text in 'text', which --text_column names" in done.stderr.decode()
    assert not output.exists()
