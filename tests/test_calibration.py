import numpy as np
import pytest

from trainer.calibration import calibration_error, fit_temperature


def drawn(scale, *, count=200_000, seed=0):
    """Logits whose true ones are `scale` times smaller, and labels drawn by those."""
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
def test_the_error_tells_probabilities_that_are_not_honest(scale):
    assert calibration_error(*drawn(scale)) > 0.05


def test_the_error_of_a_few_reviews_by_hand():
    logits = np.array([2.0, 2.0, -2.0, 0.1], np.float32)
    labels = np.array([1.0, 0.0, 0.0, 0.0], np.float32)
    sure, unsure = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(-0.1))
    expected = (3 * abs(2 / 3 - sure) + unsure) / 4
    assert calibration_error(logits, labels) == pytest.approx(expected, rel=1e-4)


def test_temperatures_have_bounds():
    """Where each decision is right, no temperature would be low enough."""
    logits = np.array([0.1, -0.1], np.float32)
    assert fit_temperature(logits, np.array([1.0, 0.0])) == pytest.approx(0.01, rel=1e-3)
    assert fit_temperature(logits, np.array([0.0, 1.0])) == pytest.approx(100, rel=1e-3)
    assert fit_temperature(logits, np.array([1.0, 1.0])) == 1.0
