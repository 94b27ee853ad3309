"""The Evaluator's metrics and probabilities."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as reference

from pipeline.batches import evaluation_batches
from tests.helpers import make_small_loop
from trainer.artifacts.trained_run import load
from trainer.evaluation.metrics import compute_metrics
from trainer.evaluation.scoring import Evaluator


@pytest.mark.parametrize("count", [1, 100, 250])
def test_evaluation_counts_each_example_once(small_config, splits, tmp_path, count, monkeypatch):
    """The reference is scikit-learn, on a section of the split and on all of it."""
    monkeypatch.setattr("trainer.evaluation.scoring._FEW", 100)  # more are read by tf.data
    examples = splits[1][:count]
    model = make_small_loop(small_config, splits, tmp_path).state.model
    logits = tf.concat(
        [model(ids) for ids, *_ in evaluation_batches(examples, batch_size=64)], axis=0
    )
    scale = 2 / max(float(tf.math.reduce_std(logits)), 1e-3)  # as confident as a trained model
    model.neural_scorers[0].logit.kernel.assign(model.neural_scorers[0].logit.kernel * scale)
    model.neural_scorers[0].logit.bias.assign([-scale * float(tf.reduce_mean(logits))])
    evaluator = Evaluator(model)
    assert len(examples) == count
    labels, probabilities = examples.labels, evaluator.predict(examples)[:, 1]
    measured = compute_metrics(labels, evaluator.logits(examples))
    assert measured["accuracy"] == pytest.approx(np.mean((probabilities > 0.5) == labels))
    log_loss = reference.log_loss(labels, probabilities.astype(float), labels=[0, 1])
    assert measured["loss"] == pytest.approx(log_loss, abs=1e-5)
    if count > 1:
        assert measured["auc"] == pytest.approx(
            reference.roc_auc_score(labels, probabilities), abs=5e-3
        )


def test_predictions_are_in_the_order_of_the_examples(small_config, splits, tmp_path):
    model = make_small_loop(small_config, splits, tmp_path).state.model
    examples = splits[1]
    predicted = Evaluator(model).predict(examples)[:, 1:]
    one_by_one = [
        tf.sigmoid(model(tf.cast(examples.row(i)[np.newaxis], tf.int32)))[0] for i in range(10)
    ]
    np.testing.assert_allclose(predicted[:10], one_by_one, atol=1e-5)


def test_predictions_one_by_one_trace_once(trained, monkeypatch):
    run = load(trained)
    monkeypatch.setattr("trainer.evaluation.scoring.evaluation_batches", None)  # would trace
    for texts in ([b"good"], [b"bad", b"worse"], [b""]):
        run.predict(texts)
    assert run.evaluator.score_step.experimental_get_tracing_count() == 1
