"""An export changes no global state, and does not depend on the machine."""

import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from model import ENCODERS
from model.encoders import make_encoder
from model.lstm import without_cudnn
from trainer.artifacts.export import export
from trainer.artifacts.trained_run import load
from trainer.runtime import processor

TEXTS = [b"A good film.", b"", b"The worst, the very worst of all films!"]


def operations(folder):
    """Names the operations of all graphs of a SavedModel."""
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    functions = [node for function in graph.library.function for node in function.node_def]
    return [node.op for node in [*graph.node, *functions]]


@pytest.fixture
def with_visible_gpu(monkeypatch):
    """Makes TensorFlow list a GPU in this process."""
    known = tf.config.list_logical_devices

    def listed(kind=None):
        fake = types.SimpleNamespace(name="/device:GPU:0", device_type="GPU")
        return [fake] if kind == "GPU" else known(kind)

    monkeypatch.setattr(tf.config, "list_logical_devices", listed)
    assert tf.config.list_logical_devices("GPU")


@pytest.mark.slow
def test_repeated_exports_change_no_global_state(trained, tmp_path):
    before = load(trained).predict(TEXTS)[:, 1]
    visible = tf.config.get_visible_devices()
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    for is_enabled in (True, False):
        tf.config.experimental.enable_tensor_float_32_execution(is_enabled)
        export(trained, tmp_path / str(is_enabled))
        assert tf.config.experimental.tensor_float_32_execution_enabled() == is_enabled
        loaded = tf.saved_model.load(str(tmp_path / str(is_enabled)))
        answer = loaded.signatures["serving_default"](texts=tf.constant(TEXTS))
        np.testing.assert_allclose(answer["probability"], before, atol=1e-5)
    assert tf.config.get_visible_devices() == visible
    assert tf.config.threading.get_intra_op_parallelism_threads() == threads


@pytest.mark.usefixtures("with_visible_gpu")
def test_an_export_on_a_gpu_has_no_cudnn_operation(trained, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *_: calls.append(1))
    export(trained, tmp_path / "export")
    names = operations(tmp_path / "export")
    assert "BlockLSTMV2" in names
    assert [name for name in names if "cudnn" in name.lower()] == []
    assert calls == []


@pytest.mark.usefixtures("with_visible_gpu")
@pytest.mark.parametrize("name", ENCODERS)
def test_no_encoder_uses_cudnn_where_it_is_disabled(name):
    encoder = make_encoder(name, units=4, seed=0, dtype=tf.keras.DTypePolicy("float32"))
    with without_cudnn():
        encoder(tf.zeros([1, 2, 3]), tf.constant([2]))  # creates its variables

    def traced():
        def encode(embedded, lengths):
            return encoder.call(embedded, lengths)

        specs = (tf.TensorSpec([None, None, 3]), tf.TensorSpec([None], tf.int32))
        graph = tf.function(encode).get_concrete_function(*specs).graph.as_graph_def()
        functions = [node for function in graph.library.function for node in function.node_def]
        return [node.op for node in [*graph.node, *functions] if "cudnn" in node.op.lower()]

    with without_cudnn():
        assert traced() == []


@pytest.mark.slow
def test_an_export_does_not_depend_on_the_number_of_cores(trained, tmp_path, monkeypatch):
    graphs = []
    for cores in (1, 4):
        monkeypatch.setattr(processor, "cores", lambda cores=cores: cores)
        export(trained, tmp_path / str(cores))
        graphs.append(sorted(operations(tmp_path / str(cores))))
    assert graphs[0] == graphs[1]
