"""Batches: order, length buckets and padding."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from pipeline.batches import (
    PADDING_LABEL,
    batches_per_epoch,
    eager_batches,
    epoch_order,
    evaluation_batches,
    evaluation_order,
    training_batches,
)
from pipeline.examples import unlabelled_examples


@pytest.fixture(scope="module")
def examples():
    """1,003 examples whose first token is their number, with lengths as in real data."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(5, 0.6, 1003), 1, 500).astype(int)
    rows = [[number + 1] + [1] * (length - 1) for number, length in enumerate(lengths)]
    labels = np.arange(1003, dtype=np.float32)
    return dataclasses.replace(
        unlabelled_examples(tf.ragged.constant(rows, tf.int32)), labels=labels
    )


def numbers(batches):
    return [token_ids.numpy()[:, 0] - 1 for token_ids, *_ in batches]


def test_an_epoch_has_every_example_once(examples):
    seen = numbers(training_batches(examples, batch_size=64, seed=0, epoch=0))
    assert sorted(np.concatenate(seen)) == list(range(1003))
    assert len(seen) == batches_per_epoch(1003, 64) == 16
    assert sorted(map(len, seen)) == [1003 % 64] + [64] * 15


@pytest.mark.parametrize("make", [evaluation_batches, eager_batches])
def test_evaluation_batches_have_every_example_once_in_order(examples, make):
    seen = numbers(make(examples, batch_size=100))
    assert (np.concatenate(seen) == evaluation_order(examples.lengths)).all()
    assert sorted(np.concatenate(seen)) == list(range(1003))


def test_rows_are_padded_at_the_end(examples):
    for token_ids, labels, _ in training_batches(examples, batch_size=64, seed=3, epoch=1):
        for row, label in zip(token_ids.numpy(), labels.numpy(), strict=True):
            tokens = examples.row(int(label))
            assert (row[: len(tokens)] == tokens).all()
            assert not row[len(tokens) :].any()


@pytest.mark.parametrize("shards", [1, 3])
def test_offsets_stay_with_their_examples(examples, shards):
    offsets = np.stack([examples.labels, -examples.labels], axis=1)
    shifted = dataclasses.replace(examples, offsets=offsets)
    arguments = {"batch_size": 64, "seed": 3, "epoch": 1, "shards": shards, "local": range(shards)}
    for _, labels, found in training_batches(shifted, **arguments):
        expected = np.stack([labels, -labels.numpy()], axis=1)
        is_padding = labels.numpy() == PADDING_LABEL
        np.testing.assert_array_equal(found[~is_padding], expected[~is_padding])
        assert not found[is_padding].numpy().any()
    for _, _, found in training_batches(examples, **arguments):
        assert found.shape[1] == 0


def test_order_is_a_function_of_seed_and_epoch(examples):
    def order(seed, epoch):
        batches = epoch_order(examples.lengths, batch_size=64, seed=seed, epoch=epoch)
        return np.concatenate(batches).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("first_batch", [0, 5, 15, 16])
def test_a_resumed_epoch_has_the_remaining_batches(examples, first_batch):
    arguments = {"batch_size": 64, "seed": 1, "epoch": 2}
    whole = numbers(training_batches(examples, **arguments))
    rest = numbers(training_batches(examples, **arguments, first_batch=first_batch))
    assert [batch.tolist() for batch in rest] == [b.tolist() for b in whole[first_batch:]]


def test_batches_hold_little_padding_and_still_mix(examples):
    batches = list(training_batches(examples, batch_size=16, seed=0, epoch=0))
    padded = sum(token_ids.shape[0] * token_ids.shape[1] for token_ids, *_ in batches)
    assert padded <= 1.1 * examples.lengths.sum()
    lengths = [token_ids.shape[1] for token_ids, *_ in batches]
    assert lengths != sorted(lengths)


@pytest.mark.parametrize("make", [evaluation_batches, eager_batches])
@pytest.mark.parametrize(("lengths", "padded"), [([1, 9], 16), ([8], 8)])
def test_padding_is_to_a_multiple_of_eight(lengths, padded, make):
    examples = unlabelled_examples(
        tf.ragged.constant([[1] * length for length in lengths], tf.int32)
    )
    batches = make(examples, batch_size=4)
    assert [token_ids.shape for token_ids, *_ in batches] == [(len(lengths), padded)]


@pytest.mark.parametrize("make", [evaluation_batches, eager_batches])
def test_no_examples_are_an_empty_batch(examples, make):
    ((token_ids, labels, offsets),) = make(examples[:0], batch_size=4)
    assert token_ids.shape[0] == len(labels) == len(offsets) == 0
