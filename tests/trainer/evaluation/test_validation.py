"""Validation: an uncalibrated loss, and calibrated other metrics."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from pipeline.errors import RunError
from tests.helpers import make_small_loop
from trainer.artifacts.trained_run import load
from trainer.data import open_corpus
from trainer.evaluation.calibration import calibration_error, cross_calibrated, fit_temperature
from trainer.evaluation.scoring import Evaluator


@pytest.fixture
def overconfident(small_config, splits, tmp_path):
    """A loop whose untrained model gives extreme probabilities."""
    loop = make_small_loop(small_config, splits, tmp_path)
    model = loop.state.model
    examples = splits[2]
    logits = Evaluator(model).logits(examples)
    scale = 5 / logits.std()
    model.neural_scorers[0].logit.kernel.assign(model.neural_scorers[0].logit.kernel * scale)
    model.neural_scorers[0].logit.bias.assign([-scale * float(np.median(logits))])
    return loop


def validate(loop, examples):
    """Returns the metrics of a validation, and its calibrated logits."""
    return loop._objective.validate(examples)[:2]


def test_the_validation_loss_is_uncalibrated(overconfident, splits):
    examples = splits[2]
    before = Evaluator(overconfident.state.model).logits(examples)
    metrics, logits = validate(overconfident, examples)
    expected = log_loss(examples.labels, expit(before.astype(float)))
    assert metrics["loss"] == pytest.approx(expected, rel=1e-4)
    calibrated = Evaluator(overconfident.state.model).logits(examples)
    temperature = fit_temperature(before, examples.labels)
    assert temperature > 2
    np.testing.assert_allclose(calibrated, before / temperature, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits, calibrated, rtol=1e-4, atol=1e-4)
    assert metrics["loss"] > log_loss(examples.labels, expit(calibrated.astype(float))) + 0.1


def test_the_validation_calibration_error_is_out_of_sample(overconfident, splits):
    examples = splits[2]
    before = Evaluator(overconfident.state.model).logits(examples)
    metrics, logits = validate(overconfident, examples)
    expected = calibration_error(cross_calibrated(before, examples.labels), examples.labels)
    assert metrics["calibration_error"] == pytest.approx(expected, abs=1e-3)
    in_sample = calibration_error(logits, examples.labels)
    assert metrics["calibration_error"] != pytest.approx(in_sample, abs=2e-3)


def test_less_confident_errors_give_a_lower_validation_loss(overconfident, splits):
    """Calibration would hide the difference; the loss that chooses the best epoch shows it."""
    examples, model = splits[2], overconfident.state.model
    sure, _ = validate(overconfident, examples)
    for weight in (model.neural_scorers[0].logit.kernel, model.neural_scorers[0].logit.bias):
        weight.assign(weight / 4)
    unsure, _ = validate(overconfident, examples)
    assert unsure["accuracy"] == sure["accuracy"]
    assert unsure["loss"] < sure["loss"] - 0.1


def test_evaluating_validation_again_gives_the_metrics_of_the_epoch(trained, small_config):
    run = load(trained)
    with (trained / "history.csv").open() as file:
        names, *rows = (line.strip().split(",") for line in file)
    row = dict(zip(names, rows[run.best_epoch - 1], strict=True))
    metrics = run.evaluate_split(open_corpus(small_config), "validation")
    for name in ("accuracy", "auc", "calibration_error"):
        assert metrics[name] == pytest.approx(float(row[f"validation_{name}"]), abs=1e-3), name


def test_nan_logits_end_the_run_at_validation(small_config, splits, tmp_path):
    """The last step of an epoch may leave NaN weights."""
    config = dataclasses.replace(small_config, epochs=1)
    loop = make_small_loop(config, splits, tmp_path)
    loop.state.model.neural_scorers[0].logit.bias.assign([math.nan])
    metrics, _ = validate(loop, splits[2])
    assert math.isnan(metrics["loss"])
    assert float(loop.state.model.temperature) == 1.0
    with pytest.raises(RunError, match="the validation loss is nan"):
        loop._keep_best(metrics)
