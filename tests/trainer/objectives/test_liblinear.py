"""Tests of the solver."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from trainer.objectives.liblinear import fit_logit


@pytest.mark.parametrize("count", [1_000, 5_000, 11_000])
def test_logits_are_those_of_a_precise_fit(count):
    random = np.random.default_rng(0)
    texts = sparse.random(count, 3_000, density=0.01, format="csr", random_state=0)
    texts.sort_indices()
    is_class = texts @ random.normal(size=3_000) + random.normal(size=count) > 0
    weights = np.ones(count)
    fitted, bias = fit_logit(texts, is_class, weights, 10.0)
    precise = LogisticRegression(C=10.0, solver="liblinear", tol=1e-4, max_iter=10_000)
    logits = precise.fit(texts, is_class).decision_function(texts)
    error = texts @ fitted + bias - logits
    assert error.std() < 0.02 * logits.std()


@pytest.mark.parametrize(("inside", "bias"), [(0, -np.log(9)), (4, np.log(9))])
def test_texts_of_one_class_have_the_smoothed_log_odds(inside, bias):
    texts = sparse.csr_matrix(np.ones([4, 2]))
    weights, found = fit_logit(texts, np.arange(4) < inside, np.ones(4), 10.0)
    assert not weights.any()
    assert found == pytest.approx(bias)
