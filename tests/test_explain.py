"""Explanations add up to what they explain."""

import itertools
import json
import math
import os

import numpy as np
import pytest
import tensorflow as tf

from model import ENCODERS
from tests.test_model import make, reviews
from tests.test_ngrams import make_counted
from trainer.artifacts.trained_run import load


def check_complete(model, token_ids, *, tolerance):
    weights, baseline = model.contributions(token_ids)
    assert weights.shape == token_ids.shape
    logit = float(model(token_ids[tf.newaxis])[0])
    assert float(tf.reduce_sum(weights) + baseline) == pytest.approx(logit, abs=tolerance)
    return np.abs(weights).max()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_weights_of_a_network_add_up_to_its_logit(encoder):
    """The axiom of completeness, at a network as sure as a trained one."""
    model = make(encoder)
    (part,) = model.scorers
    for variable in (part.embedding.embeddings, part.logit.kernel):
        variable.assign(variable * 20)
    model.temperature.assign(0.7)
    for token_ids in reviews(5, 60):
        assert check_complete(model, token_ids, tolerance=1e-3) > 0.01


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_weights_of_ngrams_add_up_to_their_logit(longest):
    counted = reviews(40, 30)
    model = make_counted(longest, counted)
    model.scorers[0].bias.assign(0.3)
    for token_ids in counted[:10]:
        assert check_complete(model, token_ids, tolerance=3e-5) > 0.01
    for few in ([7], [7, 7, 7], [3, 3]):
        check_complete(model, tf.constant(few), tolerance=3e-5)


def test_parts_are_explained_together_by_their_mean():
    counted = reviews(40, 30)
    model = make_counted(2, counted, "pooled_lstm", "stacked_lstm")
    for token_ids in counted[:5]:
        assert check_complete(model, token_ids, tolerance=1e-3) > 0.01


def test_the_weight_of_a_token_among_ngrams_is_its_shapley_value():
    """Over all orders in which the tokens can come, what each adds by coming."""
    model = make_counted(3, reviews(40, 30))
    (part,), token_ids = model.scorers, [5, 9, 4, 11]

    def score(present):  # of those n-grams all of whose tokens have come
        ngrams = [
            places
            for size in (1, 2, 3)
            for places in ([*range(i, i + size)] for i in range(5 - size))
            if set(places) <= set(present)
        ]
        return sum(alone([token_ids[place] for place in places]) for places in ngrams)

    def alone(ngram):  # its score without those of the shorter ones in it
        whole = float(part(tf.constant([ngram]))[0] - part.bias)
        shorter = {tuple(ngram[i:j]) for i, j in itertools.combinations(range(len(ngram) + 1), 2)}
        return whole - sum(alone(list(one)) for one in shorter - {tuple(ngram)})

    shares = np.zeros(4)
    for order in itertools.permutations(range(4)):
        for number, token in enumerate(order):
            shares[token] += score(order[: number + 1]) - score(order[:number])
    weights, _ = part.contributions(tf.constant(token_ids))
    np.testing.assert_allclose(weights, shares / math.factorial(4), atol=1e-4)


def test_tokens_that_are_not_read_have_no_weight():
    model = make("pooled_lstm", encoder_length=5)
    weights, _ = model.contributions(tf.range(2, 14))
    assert (weights[:-5].numpy() == 0).all()
    assert (weights[-5:].numpy() != 0).all()


def test_words_are_those_of_the_token_ids(trained):
    run = load(trained[0])
    text = b"The <b>BEST</b> film xyzzyq, ever: it's GOOD! " * 20
    token_ids, words = (
        run.vectorizer(tf.constant([text]))[0].numpy(),
        run.vectorizer.tokens_of(text),
    )
    assert len(words) == len(token_ids) == run.config.sequence_length
    for word, token_id in zip(words, token_ids, strict=True):
        assert word == run.vectorizer.tokens[token_id - 2] or (word == "xyzzyq" and token_id == 1)
    assert run.vectorizer.tokens_of(b"<br>") == [""]


@pytest.fixture(scope="module")
def explained(trained, run):
    """Rows of predict --explain, with tabs between their columns."""
    arguments = (f"--model_dir={trained[0]}", "--explain", "A good film.", "")
    return run("predict", *arguments).stdout.decode().splitlines()


def test_predict_explains_in_a_further_column(explained):
    good, empty = (row.split("\t") for row in explained)
    assert [pair.split("=")[0] for pair in good[3].split()] == ["a", "good", "film"]
    assert all(np.isfinite(float(pair.split("=")[1])) for pair in good[3].split())
    assert len(good) == len(empty) == 4


def test_predict_explains_in_json(trained, run, explained):
    done = run(
        "predict",
        f"--model_dir={trained[0]}",
        "--explain",
        "--format=jsonl",
        stdin=b"A good film.\n\n",
    )
    rows = [json.loads(row) for row in done.stdout.splitlines()]
    for row, tabbed in zip(rows, explained, strict=True):
        logit = row["baseline"] + sum(weight for _, weight in row["words"])
        assert 1 / (1 + math.exp(-logit)) == pytest.approx(row["probability"], abs=1e-4)
        assert f"{row['probability']:.6f}" == tabbed.split("\t")[1]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_shows_colours_unless_told_otherwise(trained, start, no_color):
    reading, terminal = os.openpty()
    process = start(
        "predict",
        f"--model_dir={trained[0]}",
        "--explain",
        "A good film.",
        stdout=terminal,
        env={**os.environ, "NO_COLOR": no_color},
    )
    _, err = process.communicate(timeout=240)
    os.close(terminal)
    assert process.returncode == 0, err
    told = os.read(reading, 10_000)
    os.close(reading)
    assert (b"\x1b[30;48;5;" in told) != bool(no_color)
    assert (b"good=" in told) == bool(no_color)
