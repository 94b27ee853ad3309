"""What TensorBoard is given, read back by its own reader; scalars are in test_end_to_end.py."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def tensors(accumulator, tag):
    return {event.step: tf.make_ndarray(event.tensor_proto) for event in accumulator.Tensors(tag)}


@pytest.fixture(scope="module")
def history(trained):
    with (trained[0] / "history.csv").open(newline="") as file:
        return {int(row["step"]): row for row in csv.DictReader(file)}


def test_the_settings_are_there_to_read_and_to_compare_runs_by(trained):
    settings = json.loads((trained[0] / "config.json").read_text())["settings"]
    validation = events(trained[0] / "validation")
    (text,) = tensors(validation, "settings").values()
    for name, value in settings.items():
        assert f"| {name} | {value} |" in text.item().decode()
    (start,) = validation.PluginTagToContent("hparams").values()
    about = plugin_data_pb2.HParamsPluginData.FromString(start).session_start_info.hparams
    assert set(about) == set(settings)
    assert about["vocab_size"].number_value == settings["vocab_size"]
    assert about["encoder"].string_value == settings["encoder"]


def test_the_best_figures_are_those_of_the_best_epoch(trained, history):
    best = min(history.values(), key=lambda row: float(row["validation_loss"]))
    validation = events(trained[0] / "validation")
    for name in ("loss", "accuracy"):
        *_, (step, value) = tensors(validation, f"best/{name}").items()
        assert step == int(best["step"])
        assert value == pytest.approx(float(best[f"validation_{name}"]), rel=1e-6)


def test_decisions_agree_with_the_accuracy_of_their_epoch(trained, history):
    validation = events(trained[0] / "validation")
    curves = tensors(validation, "epoch/precision_recall")
    assert list(curves) == list(history)
    for step, curve in curves.items():
        found, false, spared, missed, precision, recall = curve[:, 100].tolist()  # above 0.5
        reviews = found + false + spared + missed
        accuracy = float(history[step]["validation_accuracy"])
        assert (found + spared) / reviews == pytest.approx(accuracy, abs=1.5 / reviews)
        assert precision == pytest.approx(found / (found + false))
        assert recall == pytest.approx(found / (found + missed))
        assert (np.diff(curve[5]) <= 0).all()
        assert (curve[5, 0], curve[5, -1]) == (1, 0)
    pictures = tensors(validation, "epoch/confusion")
    assert list(pictures) == list(history)
    for _, _, png in pictures.values():
        assert tf.io.decode_png(png).shape == (300, 300, 4)


def test_weights_have_histograms(trained, history):
    train = events(trained[0] / "train")
    tags = [tag for tag in train.Tags()["tensors"] if tag.startswith("weights/")]
    assert len(tags) == 9  # an embedding, two LSTMs of three each, a logit of two
    for tag in tags:
        assert list(tensors(train, tag)) == list(history)
