"""Temperature, calibration error and cross-fitting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit

from trainer.evaluation import calibration


def one_logit(function):
    """Returns a function of logits [N] and labels [N] that calls one of logits [N, 1]."""

    def call(logits, labels):
        found = function(np.asarray(logits)[:, np.newaxis], np.asarray(labels).astype(np.int32))
        return found[:, 0] if isinstance(found, np.ndarray) else found

    return call


calibration_error = one_logit(calibration.calibration_error)
cross_calibrated = one_logit(calibration.cross_calibrated)
fit_temperature = one_logit(calibration.fit_temperature)


def drawn(scale, *, count=200_000, seed=0):
    """Returns overconfident logits, `scale` times the true ones, and labels drawn from these."""
    random = np.random.default_rng(seed)
    true = random.normal(0, 2, count)
    labels = random.random(count) < 1 / (1 + np.exp(-true))
    return (scale * true).astype(np.float32), labels.astype(np.float32)


@pytest.mark.parametrize("scale", [0.2, 1.0, 7.0])
def test_the_temperature_is_found(scale):
    logits, labels = drawn(scale)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(scale, rel=0.02)
    assert calibration_error(logits / temperature, labels) < 0.005


@pytest.mark.parametrize("scale", [0.2, 7.0])
def test_calibration_error_detects_overconfidence(scale):
    assert calibration_error(*drawn(scale)) > 0.05


def test_calibration_error_of_a_few_examples():
    logits = np.array([2.0, 2.0, -2.0, 0.1], np.float32)
    labels = np.array([1.0, 0.0, 0.0, 0.0], np.float32)
    sure, unsure = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-0.1))
    expected = (3 * abs(2 / 3 - sure) + unsure) / 4
    assert calibration_error(logits, labels) == pytest.approx(expected, rel=1e-4)


def mean_probability_of_the_label(logits, labels):
    """The mean over examples, weighted by |logit|."""
    right = expit(np.where(labels > 0.5, logits, -logits))
    return np.average(right, weights=np.abs(logits))


@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    scale=st.floats(1, 50),
)
def test_the_number_of_examples_bounds_probabilities_without_errors(seed, counts, scale):
    """The bound is the Krichevsky-Trofimov estimate for that many correct decisions."""
    labels = np.repeat([0.0, 1.0], counts).astype(np.float32)
    sizes = scale * np.random.default_rng(seed).uniform(0.5, 2, len(labels))
    logits = np.where(labels > 0.5, sizes, -sizes).astype(np.float32)
    temperature = fit_temperature(logits, labels)
    expected = (len(labels) + 0.5) / (len(labels) + 1)
    mean = mean_probability_of_the_label(logits / temperature, labels)
    assert mean == pytest.approx(expected, abs=1e-5)


def test_the_loss_of_an_unseen_error_is_bounded_by_the_number_of_examples():
    """200 correct examples, and then one wrong example of the same confidence."""
    labels = np.tile([0.0, 1.0], 100).astype(np.float32)
    logits = np.where(labels > 0.5, 40.0, -40.0).astype(np.float32)
    cost = np.logaddexp(0, 40.0 / fit_temperature(logits, labels))
    assert cost == pytest.approx(np.log(402), rel=1e-3)


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_with_many_examples_the_temperature_minimizes_the_loss(scale):
    logits, labels = drawn(scale, count=5_000)

    def loss(log_temperature):
        scores = logits / np.exp(log_temperature)
        return np.mean(np.logaddexp(0, scores) - labels * scores)

    lowest = np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x)
    assert fit_temperature(logits, labels) == pytest.approx(lowest, rel=0.005)


def test_temperatures_have_bounds():
    sizes = np.array([1e-4, -1e-4], np.float32)
    assert fit_temperature(sizes, np.array([1.0, 0.0])) == pytest.approx(0.01, rel=1e-3)
    assert fit_temperature(sizes, np.array([0.0, 1.0])) == pytest.approx(10_000, rel=1e-3)
    assert fit_temperature(sizes, np.array([1.0, 1.0])) == 1.0
    assert fit_temperature(sizes[:0], np.array([])) == 1.0


@given(count=st.integers(0, 60), seed=st.integers(0, 2**32 - 1))
def test_cross_fitting_uses_no_example_on_itself(count, seed):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, count).astype(np.float32)
    labels = (random.random(count) < expit(logits)).astype(np.float32)
    temperatures = logits / cross_calibrated(logits, labels)
    steps = np.diff(np.sort(temperatures))
    assert np.sum(steps > 1e-4 * temperatures.max(initial=0)) <= 1  # so there are two temperatures
    for place in range(count):
        changed = logits.copy()
        changed[place] += 1
        again = changed / cross_calibrated(changed, labels)
        assert again[place] == pytest.approx(temperatures[place], rel=1e-4)


def test_cross_fitting_gives_each_half_the_temperature_of_the_other():
    logits, labels = drawn(3.0, count=1_000)
    order = np.argsort(labels, kind="stable")  # each half is every other example
    assert np.sum(labels == 0) % 2 == 0, "the halves below would not be those of each label"
    logits, labels = logits[order], labels[order]
    calibrated = cross_calibrated(logits, labels)
    for half, other in (
        (slice(0, None, 2), slice(1, None, 2)),
        (slice(1, None, 2), slice(0, None, 2)),
    ):
        expected = logits[half] / fit_temperature(logits[other], labels[other])
        np.testing.assert_allclose(calibrated[half], expected, rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_calibration_error_of_nan_logits_is_nan(value):
    assert np.isnan(calibration_error(np.array([1.0, value], np.float32), np.array([1.0, 0.0])))


@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_the_temperature_of_many_classes_is_found(scale):
    random = np.random.default_rng(0)
    true = random.normal(0, 2, [40_000, 5])
    drawn_labels = (true + random.gumbel(size=true.shape)).argmax(axis=1)  # of softmax(true)
    logits, labels = (scale * true).astype(np.float32), drawn_labels.astype(np.int32)
    temperature = calibration.fit_temperature(logits, labels)
    assert temperature == pytest.approx(scale, rel=0.03)
    assert calibration.calibration_error(logits / temperature, labels) < 0.01
    assert calibration.calibration_error(logits, labels) > 0.05
