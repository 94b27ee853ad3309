"""TensorBoard's pages, read back by its own reader; test_train.py tests the scalars."""

import csv
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from sklearn.metrics import precision_score, recall_score
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.context import RequestContext
from tensorboard.plugins import projector
from tensorboard.plugins.hparams import (
    api_pb2,
    backend_context,
    get_experiment,
    list_session_groups,
    metadata,
)

from model.labels import cross_entropies, to_targets
from pipeline.batches import training_batches
from tests.helpers import make_small_loop, take_step
from trainer.artifacts.state import sample
from trainer.artifacts.trained_run import load

PR_CURVES = "epoch/precision_recall/pr_curves"
THRESHOLD_HALF = 100  # of 201 thresholds from 0 to 1


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def tensors(accumulator, tag):
    return {event.step: tf.make_ndarray(event.tensor_proto) for event in accumulator.Tensors(tag)}


def session_of(validation):
    content = validation.PluginTagToContent("hparams")[metadata.SESSION_START_INFO_TAG]
    return metadata.parse_session_start_info_plugin_data(content)


@pytest.fixture(scope="module")
def history(trained):
    with (trained / "history.csv").open(newline="") as file:
        return {int(row["step"]): row for row in csv.DictReader(file)}


def test_settings_are_written_as_text_and_as_hparams(trained):
    settings = json.loads((trained / "config.json").read_text())["settings"]
    validation = events(trained / "validation")
    (text,) = tensors(validation, "settings").values()
    for name, value in settings.items():
        assert f"| {name} | {value} |" in text.item().decode()
    about = session_of(validation).hparams
    assert {"seed", "encoder", "epochs", "vocab_size"} < set(about) < set(settings)
    assert not {"data_dir", "cache_dir", "checkpoint_every"} & set(about)
    assert about["vocab_size"].number_value == settings["vocab_size"]
    assert about["encoder"].string_value == settings["encoder"]


def test_the_hparams_page_shows_what_is_swept_and_the_results(trained):
    """As TensorBoard's server answers the page."""
    events = plugin_event_multiplexer.EventMultiplexer()
    events.AddRunsFromDirectory(str(trained.parent)).Reload()
    provider = data_provider.MultiplexerDataProvider(events, str(trained.parent))
    context = backend_context.Context(SimpleNamespace(data_provider=provider))
    about = (RequestContext(), context, "")
    page = get_experiment.Handler(*about, api_pb2.GetExperimentRequest()).run()
    first = {info.name for info in page.hparam_infos[:5]}
    assert first == {"learning_rate", "batch_size", "encoder", "units", "dropout"}
    columns = [api_pb2.ColParams(hparam="units")]
    every = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_RUNNING, api_pb2.STATUS_SUCCESS]
    request = api_pb2.ListSessionGroupsRequest(
        col_params=columns, allowed_statuses=every, slice_size=9
    )
    (group,) = list_session_groups.Handler(*about, request).run().session_groups
    assert group.name == "runs with a space/small"
    shown = {value.name.tag: value.value for value in group.metric_values}
    results = json.loads((trained / "results.json").read_text())
    for name in ("accuracy", "loss", "macro_f1", "train_seconds"):
        assert shown[f"test/{name}"] == pytest.approx(results[name], rel=1e-6)
    assert shown["validation_best/loss"] == pytest.approx(results["validation_loss"], rel=1e-6)


@pytest.mark.slow
def test_a_resumed_run_shows_its_current_settings(small_config, splits, tmp_path):
    """TensorBoard shows the first event of a tag, so the old one must be dropped."""
    for epochs in (1, 2):
        config = dataclasses.replace(small_config, epochs=epochs, max_steps=0)
        make_small_loop(config, splits, tmp_path).fit()
        validation = events(tmp_path / "validation")
        (text,) = validation.Tensors("settings")
        assert f"| epochs | {epochs} |" in tf.make_ndarray(text.tensor_proto).item().decode()
        about = session_of(validation).hparams
        assert about["epochs"].number_value == epochs
        curves = list(tensors(validation, "epoch/loss"))
        assert len(curves) == epochs  # no other event is dropped


def test_tags_sort_so_that_tensorboard_opens_epoch_and_step(trained):
    """TensorBoard sorts groups of tags by name and opens the first two."""
    tags = {
        tag
        for split in ("train", "validation")
        for tag in events(trained / split).Tags()["tensors"]
        if "/" in tag and not tag.startswith("_hparams_")
    }
    groups = sorted({tag.split("/")[0] for tag in tags})
    assert groups == ["epoch", "step", "test", "validation_best", "weight_gradients", "weights"]
    assert max(map(len, (tag.split("/", 1)[1] for tag in tags))) <= 40  # one line of a title


def test_best_metrics_are_those_of_the_best_epoch(trained, history):
    best = min(history.values(), key=lambda row: float(row["validation_loss"]))
    validation = events(trained / "validation")
    for name in ("loss", "accuracy"):
        *_, (step, value) = tensors(validation, f"validation_best/{name}").items()
        assert step == int(best["step"])
        assert value == pytest.approx(float(best[f"validation_{name}"]), rel=1e-6)


def test_the_precision_recall_curve_agrees_with_the_accuracy(trained, history):
    validation = events(trained / "validation")
    curves = tensors(validation, PR_CURVES)
    assert list(curves) == list(history)
    for step, curve in curves.items():
        counts = curve[:4, THRESHOLD_HALF].tolist()
        true_positives, _, true_negatives, _ = counts
        accuracy = float(history[step]["validation_accuracy"])
        correct = (true_positives + true_negatives) / sum(counts)
        assert correct == pytest.approx(accuracy, abs=1.5 / sum(counts))
    pictures = tensors(validation, "epoch/confusion")
    assert list(pictures) == list(history)
    for _, _, png in pictures.values():
        assert tf.io.decode_png(png).shape == (300, 300, 4)


def test_the_precision_recall_curve_of_the_best_epoch_is_that_of_scikit_learn(
    trained, history, splits
):
    examples = splits[2]
    probabilities = load(trained).evaluator.predict(examples)[:, 1]
    best = min(history, key=lambda step: float(history[step]["validation_loss"]))
    *_, precision, recall = tensors(events(trained / "validation"), PR_CURVES)[best]
    for index in range(0, 201, 20):
        predicted = probabilities >= index / 200
        if predicted.any():
            expected = precision_score(examples.labels, predicted)
            assert precision[index] == pytest.approx(expected, abs=1e-6)
        assert recall[index] == pytest.approx(recall_score(examples.labels, predicted), abs=1e-6)


@pytest.mark.parametrize("group", ["weights", "weight_gradients"])
def test_weights_and_gradients_have_histograms(trained, history, group):
    train = events(trained / "train")
    tags = [tag for tag in train.Tags()["tensors"] if tag.startswith(f"{group}/")]
    assert len(tags) == 9  # an embedding, two LSTMs of three each, a logit of two
    for tag in tags:
        histograms = tensors(train, tag)
        assert list(histograms) == list(history)
        for buckets in histograms.values():
            assert np.abs(buckets[:, :2]).max() > 0


@pytest.mark.slow
def test_gradient_histograms_are_of_the_last_step(small_config, splits, tmp_path):
    """The reference computes the gradient of one batch, without dropout, before the step."""
    config = dataclasses.replace(small_config, dropout=0.0, clip_norm=0.0)
    loop = make_small_loop(config, splits, tmp_path)
    model = loop.state.model
    token_ids, labels, _ = next(iter(training_batches(splits[1], batch_size=16, seed=0, epoch=0)))
    with tf.GradientTape() as tape:
        logits = model(token_ids)
        losses = cross_entropies(to_targets(labels, 1), logits)
        loss = tf.reduce_sum(losses) / 16
    gradients = tape.gradient(loss, model.trainable_variables)
    take_step(loop, token_ids, labels)
    for kept, gradient in zip(loop.state.gradient_samples, gradients, strict=True):
        expected = sample(tf.convert_to_tensor(gradient))
        np.testing.assert_allclose(kept, expected, rtol=1e-3, atol=1e-7)


def test_a_sample_covers_all_columns():
    matrix = tf.broadcast_to(tf.range(128.0), [5000, 128])
    taken = sample(matrix).numpy()
    assert 5_000 < len(taken) <= 14_000
    assert set(taken) == set(range(128))
    assert len(sample(tf.zeros([7, 3]))) == 21


def test_the_graph_has_the_operations_of_the_model(trained):
    names = {node.name for node in events(trained / "train").Graph().node}
    assert any("neural_scorer" in name and "embedding" in name for name in names)


def test_the_branches_of_a_batch_are_named_in_the_graph(small_config, splits, tmp_path):
    """Otherwise the graph would show two models."""
    model = make_small_loop(small_config, splits, tmp_path).state.model
    model._branches = 2
    call = tf.function(model.call, input_signature=[tf.TensorSpec([None, None], tf.int32)])
    names = [operation.name for operation in call.get_concrete_function().graph.get_operations()]
    layers = {name.split("/")[0] for name in names if "neural_scorer" in name}
    assert layers == {"branch_0", "branch_1"}


def test_the_most_confident_errors_are_shown_as_tokens(trained, history, splits):
    texts = tensors(events(trained / "validation"), "epoch/mistakes")
    assert list(texts) == list(history)
    best = load(trained)
    step = [int(row["step"]) for row in history.values() if int(row["epoch"]) == best.best_epoch]
    sections = texts[step[0]].item().decode().split("\n\n")
    tokenizer, _, validation = splits
    logits = best.evaluator.logits(validation)[:, 0]
    wrong = np.flatnonzero((logits > 0) != (validation.labels > 0.5))
    first, *_ = wrong[np.argsort(-np.abs(logits[wrong]))]
    words = ["▯" if i == 1 else tokenizer.token_names[i] for i in validation.row(first)]
    name = ("neg", "pos")[int(validation.labels[first])]
    probability = 1 / (1 + np.exp(-logits[first]))
    assert sections[0] == "▯ is an out-of-vocabulary token."
    assert sections[1] == f"**{name}**, probability of pos {probability:.4f}"
    assert sections[2] == " ".join(words)
    assert len(sections) == 1 + 2 * min(10, len(wrong))


def test_the_projector_has_the_embedding_of_the_best_model(trained):
    """Read as TensorBoard reads them."""
    folder = trained / "validation"
    config = text_format.Parse(
        (folder / "projector_config.pbtxt").read_text(), projector.ProjectorConfig()
    )
    (embedding,) = config.embeddings
    words = (folder / embedding.metadata_path).read_text().splitlines()
    vectors = np.fromfile(folder / embedding.tensor_path, np.float32)
    vectors = vectors.reshape(embedding.tensor_shape)
    run = load(trained)
    assert words == run.tokenizer.token_names[2:]
    table = run.evaluator.model.neural_scorers[0].embedding.embeddings.numpy()
    np.testing.assert_array_equal(vectors, table[2:])


@pytest.mark.slow
def test_a_profile_covers_its_steps_and_changes_no_weight(small_config, splits, tmp_path):
    """The weights are those of a run without a profile."""
    weights = []
    for steps in ("", "3,7"):
        config = dataclasses.replace(small_config, profile_steps=steps, epochs=1)
        folder = tmp_path / f"run{steps}"
        loop = make_small_loop(config, splits, folder)
        loop.fit()
        weights.append([weight.numpy() for weight in loop.state.model.trainable_variables])
        profiles = list(folder.glob("train/plugins/profile/*/*.xplane.pb"))
        assert len(profiles) == bool(steps)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
