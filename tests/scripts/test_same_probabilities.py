"""One text has one probability in evaluate, predict and the SavedModel."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

UNUSUAL_TEXTS = [
    b"",
    b"   ",
    "\U0001f600\U0001f92e".encode(),
    b"a wonderful film " * 6000,
    b"\xff\xfe\x80 bad",
    b"qqqq zzzzz xyzzy",
    b"<br /><p></p>",
    b"good\tbad\\",
]


def probabilities(done):
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line)["probability"] for line in done.stdout.splitlines()]


SERVE = """
import json, sys, tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
texts = sys.stdin.buffer.read().split(b"\\n")[:-1]
print(json.dumps(serve(tf.constant(texts))["probability"].numpy().tolist()))
"""


def serve_in_process(folder, texts):
    """Scores texts with a SavedModel in a process with TensorFlow but without this project."""
    lines = b"".join(text + b"\n" for text in texts)
    command = [sys.executable, "-c", SERVE, str(folder)]
    done = subprocess.run(command, input=lines, capture_output=True, cwd=folder, check=True)
    return json.loads(done.stdout)


def serve(folder, texts):
    """Scores texts with a SavedModel."""
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return signature(tf.constant(texts))["probability"].numpy()


@pytest.mark.parametrize(
    ("model", "serve"),
    [
        ("trained", serve),
        pytest.param("trained_with_ngrams", serve_in_process, marks=pytest.mark.slow),
    ],
)
def test_evaluate_predict_and_the_export_agree_on_each_text(
    model, serve, request, run, tmp_path, small_config
):
    from pipeline.named_dataset.dataset import open_dataset

    model_dir = request.getfixturevalue(model)
    dataset = open_dataset("imdb_offline", data_dir=small_config.data_dir, download=False)
    batches = list(dataset.read("test"))
    labels = np.concatenate([labels for _, labels in batches])
    texts = np.concatenate([texts for texts, _ in batches]).tolist()
    texts = [text.replace(b"\n", b" ") for text in texts] + UNUSUAL_TEXTS

    lines = b"".join(text + b"\n" for text in texts)
    predict = ("predict", f"--model_dir={model_dir}", "--format=jsonl")
    predicted = probabilities(run(*predict, stdin=lines))
    done = run("export", f"--model_dir={model_dir}", f"--export_dir={tmp_path / 'saved'}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().strip() == str(tmp_path / "saved")
    np.testing.assert_allclose(predicted, serve(tmp_path / "saved", texts), atol=1e-5)

    assert np.isfinite(predicted).all()
    assert np.ptp(predicted) > 0.01
    results = json.loads((model_dir / "results.json").read_text())
    of_test = np.array(predicted[: len(labels)])
    assert np.mean((of_test > 0.5) == labels) == pytest.approx(results["accuracy"])
    loss = -np.mean(np.log(np.where(labels, of_test, 1 - of_test)))
    assert loss == pytest.approx(results["loss"], abs=1e-5)
