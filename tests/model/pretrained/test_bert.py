"""The pretrained encoder against PyTorch, and its weights.

The golden numbers are those of transformers 5.24 with PyTorch 2.14, for the folder of
`make_folder`, once.
"""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.pretrained.bert import Bert
from model.pretrained.weights import assign_weights, read_tensors
from tests.pretrained_folder import make_folder, make_tensors, write_safetensors
from trainer.artifacts.pretrained import read_encoder_folder

TOKEN_IDS = tf.constant([[2, 5, 12, 9, 14, 3], [2, 17, 18, 19, 3, 0]])
# The vector of [CLS], and the mean of all vectors, for each row of TOKEN_IDS.
# fmt: off
CLS = {
    "bert": [
        [-0.903207, -1.501065, -0.604537, 2.608495, 1.426863, 0.11445, -1.020174, 0.179166],
        [-0.903091, -1.513765, -0.589873, 2.594905, 1.421284, 0.012556, -1.006657, 0.25159],
    ],
    "distilbert": [
        [2.524695, -0.173211, -0.612447, -0.360154, 0.270894, 0.02354, -0.49858, -1.412874],
        [0.68493, -0.452267, -0.888135, -0.234828, 0.397939, -0.804053, -0.013718, -0.823458],
    ],
}
MEAN = {
    "bert": [
        [-0.920408, -1.523426, -0.551596, 2.575131, 1.410622, 0.092968, -1.052884, 0.246057],
        [-0.929968, -1.541408, -0.50737, 2.557729, 1.371117, -0.027165, -1.065504, 0.366321],
    ],
    "distilbert": [
        [1.95913, -0.249774, -0.762638, -0.341835, 0.327141, 0.04012, -0.431682, -1.225039],
        [0.658168, -0.191892, -0.947577, -0.173821, 0.392845, -1.62664, 0.055723, -0.819571],
    ],
}
# fmt: on
# The norms of the gradients of sum(mean ** 3): of word, position and normalized embeddings, of the
# keys and queries of the first layer, and of the last dense layer.
GRADIENTS = {
    "bert": [2.683578, 2.794852, 2.159226, 1.458292, 1.431926, 75.319664],
    "distilbert": [65.702446, 70.485222, 22.649513, 65.125061, 49.873249, 29.541039],
}
MODEL_TYPES = list(CLS)


def make_bert(folder, model_type="bert", policy="float32", **changes):
    encoder = read_encoder_folder(str(make_folder(folder, model_type)))
    architecture = dataclasses.replace(encoder.architecture, **changes)
    bert = Bert(architecture, seed=0, dtype=keras.DTypePolicy(policy))
    bert.build((None, None))
    assign_weights(bert, read_tensors(folder / "model.safetensors"), model_type)
    return bert


def mean_of(vectors, token_ids):
    weights = tf.cast(token_ids > 0, vectors.dtype)[..., tf.newaxis]
    return tf.reduce_sum(vectors * weights, axis=1) / tf.reduce_sum(weights, axis=1)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_vectors_are_those_of_pytorch(model_type, tmp_path):
    vectors = make_bert(tmp_path, model_type)(TOKEN_IDS)
    np.testing.assert_allclose(vectors[:, 0], CLS[model_type], atol=3e-6)
    np.testing.assert_allclose(mean_of(vectors, TOKEN_IDS), MEAN[model_type], atol=3e-6)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_gradients_are_those_of_pytorch(model_type, tmp_path):
    bert = make_bert(tmp_path, model_type)
    first, last = bert.blocks
    tables = bert.embeddings
    weights = [tables.words, tables.positions, tables.norm.gamma]
    weights += [first.queries_keys_values.kernel, last.output_dense.kernel]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(mean_of(bert(TOKEN_IDS), TOKEN_IDS) ** 3)
    *others, joined, dense = tape.gradient(loss, [weight.value for weight in weights])
    queries, keys, _ = tf.split(joined, 3, axis=1)
    found = [tf.norm(tf.convert_to_tensor(part)) for part in (*others, keys, queries, dense)]
    np.testing.assert_allclose(found, GRADIENTS[model_type], rtol=1e-4)


def test_another_activation_gives_other_vectors(tmp_path):
    vectors = make_bert(tmp_path, activation="gelu_new")(TOKEN_IDS)
    difference = np.abs(vectors[:, 0] - CLS["bert"]).max()
    assert 1e-5 < difference < 1e-2  # the usual approximation, which must not be used instead


def test_padding_changes_no_vector(tmp_path):
    bert = make_bert(tmp_path)
    padded = tf.pad(TOKEN_IDS, [[0, 0], [0, 9]])
    np.testing.assert_allclose(bert(padded)[0, :6], bert(TOKEN_IDS)[0], atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_gives_similar_vectors(policy, tmp_path):
    vectors = make_bert(tmp_path, policy=policy)(TOKEN_IDS)
    assert vectors.dtype == keras.DTypePolicy(policy).compute_dtype
    np.testing.assert_allclose(tf.cast(vectors[:, 0], tf.float32), CLS["bert"], atol=0.1)


def test_dropout_is_only_in_the_layers_that_are_trained(tmp_path):
    bert = make_bert(tmp_path)
    without = bert(TOKEN_IDS)
    assert np.abs(bert(TOKEN_IDS, training=True) - without).max() > 0.01
    bert.freeze_except_last(0)
    np.testing.assert_array_equal(bert(TOKEN_IDS, training=True), without)


# Weights


def test_names_of_early_files_and_prefixes_are_read(tmp_path):
    tensors = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in make_tensors().items()
    }
    tensors["cls.predictions.bias"] = np.zeros(3, np.float32)
    tensors["bert.pooler.dense.bias"] = np.zeros(8, np.float32)
    write_safetensors(tmp_path / "model.safetensors", tensors)
    found = read_tensors(tmp_path / "model.safetensors")
    expected = make_tensors()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_half_precision_files_are_read(tmp_path):
    bert = make_bert(tmp_path)
    before = {weight.path: weight.numpy() for weight in bert.weights}
    tensors = make_tensors()
    halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    bits = {n: (t.view(np.uint32) >> 16).astype(np.uint16) for n, t in tensors.items()}
    for values, dtype in ((halves, "F16"), (bits, "BF16")):
        path = tmp_path / f"{dtype}.safetensors"
        write_safetensors(path, values, dict.fromkeys(values, dtype))
        assign_weights(bert, read_tensors(path), "bert")
        for weight in bert.weights:
            if weight.path in before and "seed" not in weight.path:
                np.testing.assert_allclose(
                    weight.numpy(), before[weight.path], rtol=1e-2, atol=1e-3
                )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("embeddings.LayerNorm.bias"), "LayerNorm.bias is missing"),
        (lambda tensors: tensors.update(extra=np.zeros(2, np.float32)), "extra is unknown"),
        (
            lambda tensors: tensors.update(
                {"embeddings.position_embeddings.weight": np.zeros([3, 8], np.float32)}
            ),
            r"has the shape \(3, 8\); .*positions",
        ),
    ],
)
def test_wrong_tensors_are_named(change, message, tmp_path):
    bert, tensors = make_bert(tmp_path), make_tensors()
    change(tensors)
    write_safetensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(ValueError, match=message):
        assign_weights(bert, read_tensors(tmp_path / "model.safetensors"), "bert")


@pytest.mark.parametrize("cut", [4, 50, -1])
def test_a_damaged_file_is_an_error(cut, tmp_path):
    path = make_folder(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"cut off|bytes at|Expecting|Unterminated|decode"):
        read_tensors(path)
