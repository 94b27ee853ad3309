"""Different uses of random numbers in one run are independent."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from model import ENCODERS
from model.seeds import derive_seed
from tests.helpers import random_token_ids
from trainer.building import build_model
from trainer.config import TrainConfig

SMALL = {"embedding_dim": 64, "units": 128, "dropout": 0.5, "word_dropout": 0.5, "batch_size": 8}


def make_model(encoder, *, seed):
    """Builds a classifier with n-grams and two encoders of one kind."""
    config = TrainConfig(encoder=f"{encoder},{encoder}", ngrams=1, seed=seed, **SMALL)
    return build_model(config, 3_000, 2, "float32")


def random_arrays(model):
    """Returns the randomly initialized weights by path, without duplicates."""
    weights = {variable.path: variable.numpy().ravel() for variable in model.trainable_variables}
    # An LSTM's input-gate biases are its negative forget-gate biases.
    drawn = {
        path: np.split(weight, 4)[1] if path.endswith("lstm_cell/bias") else weight
        for path, weight in weights.items()
    }
    return {path: weight for path, weight in drawn.items() if len(np.unique(weight)) > 2}


def streams(model):
    """Returns the initial states of Keras' seed generators."""
    states = [v.numpy() for v in model.variables if v.name == "seed_generator_state"]
    return [tuple(state.tolist()) for state in states]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_no_two_initial_arrays_share_a_stream(encoder):
    """Arrays drawn from one stream would be correlated, whatever their scales."""
    arrays = list(random_arrays(make_model(encoder, seed=0)).items())
    assert len(arrays) >= 4
    for (name, first), (other, second) in itertools.combinations(arrays, 2):
        assert is_independent(first, second), f"{name} and {other}"


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
def test_neighbouring_seeds_share_no_stream(encoder):
    models = [make_model(encoder, seed=seed) for seed in (0, 1, 2, 10)]
    for one, other in itertools.combinations(models, 2):
        assert not set(streams(one)) & set(streams(other))
        pairs = itertools.product(random_arrays(one).items(), random_arrays(other).items())
        for (name, first), (path, second) in pairs:
            assert is_independent(first, second), f"{name} and {path}"


def is_independent(first, second):
    """Returns whether the rank correlation is as small as that of independent numbers."""
    count = min(len(first), len(second), 5_000)
    assert count >= 64  # fewer might be correlated by chance
    # 6 standard errors: one false alarm in 10^9 pairs.
    return abs(spearmanr(first[:count], second[:count]).statistic) < 6 / np.sqrt(count - 1)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_no_two_generators_share_a_stream(encoder):
    states = streams(make_model(encoder, seed=3))
    assert len(states) > 3
    assert len(set(states)) == len(states)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_one_seed_gives_the_same_bits(encoder):
    one, other = (make_model(encoder, seed=5) for _ in range(2))
    for first, second in zip(one.variables, other.variables, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_adding_an_encoder_changes_no_other_encoder():
    one, two = (
        build_model(TrainConfig(encoder=encoder, ngrams=ngrams, **SMALL), 50, 2, "float32")
        for encoder, ngrams in (("pooled_lstm", 0), ("pooled_lstm,stacked_lstm", 2))
    )
    first = two.neural_scorers[0]
    for alone, beside in zip(one.neural_scorers[0].variables, first.variables, strict=True):
        np.testing.assert_array_equal(alone.numpy(), beside.numpy())
    token_ids = random_token_ids(8, 20).to_tensor()
    alone, beside = (
        scorer(token_ids, training=True).numpy() for scorer in (one.neural_scorers[0], first)
    )
    np.testing.assert_array_equal(alone, beside)


@given(
    uses=st.lists(
        st.tuples(st.integers(0, 2**31), st.text(max_size=20)), min_size=2, max_size=20, unique=True
    )
)
def test_each_use_of_each_seed_derives_another_seed(uses):
    """Also if one name is a prefix of another; by chance, 20 seeds collide in 2e-7 of the runs."""
    derived = [derive_seed(*use) for use in uses]
    assert len(set(derived)) == len(derived)
    assert all(0 <= seed < 2**30 for seed in derived)
