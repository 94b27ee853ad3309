"""TrainingLoop: memorization, early stopping and its log."""

import dataclasses
import logging

import pytest

from pipeline.batches import training_batches
from tests.helpers import make_small_loop
from trainer.evaluation.metrics import compute_metrics
from trainer.evaluation.scoring import Evaluator


@pytest.mark.slow
def test_eight_examples_are_memorized(small_config, splits, tmp_path):
    config = dataclasses.replace(small_config, batch_size=8, dropout=0.0, learning_rate=0.01)
    eight = splits[1][:8]
    assert 0 < sum(eight.labels) < 8
    loop = make_small_loop(config, splits, tmp_path, training=eight)
    for epoch in range(60):
        loop.train_step.run(iter(training_batches(eight, batch_size=8, seed=0, epoch=epoch)), 1)
    measured = compute_metrics(eight.labels, Evaluator(loop.state.model).logits(eight))
    assert measured["accuracy"] == 1.0
    assert measured["loss"] < 0.05


def test_early_stopping_ends_the_run_after_its_patience(small_config, splits, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    config = dataclasses.replace(
        small_config, epochs=50, learning_rate=0.05, early_stopping_patience=2
    )
    loop = make_small_loop(config, splits, tmp_path, training=splits[1][:32])
    loop.fit()
    state = loop.state
    assert loop.is_finished()
    best = int(state.best_epoch)
    assert int(state.epoch) == best + 2 < 50
    assert caplog.messages[-1] == (
        f"stopped: no better validation loss in the last 2 epochs; best epoch {best} of {best + 2}"
    )


@pytest.mark.parametrize(
    ("settings", "epochs", "stale", "advice"),
    [
        ({}, 2, 1, "to resume it, increase --epochs"),
        ({}, 1, 3, "to resume it, increase --early_stopping_patience"),
        ({}, 2, 3, "to resume it, increase --early_stopping_patience and --epochs"),
        ({"decay": "linear"}, 2, 1, "to train longer, name another --model_dir"),
        ({"max_steps": 3}, 2, 1, "to resume it, increase --max_steps"),
        ({"max_steps": 3, "decay": "linear"}, 2, 1, "to train longer, name another --model_dir"),
    ],
)
def test_a_finished_run_gives_advice_that_works(
    small_config, splits, tmp_path, settings, epochs, stale, advice
):
    config = dataclasses.replace(small_config, epochs=2, early_stopping_patience=3, **settings)
    loop = make_small_loop(config, splits, tmp_path)
    loop.state.epoch.assign(epochs)
    loop.state.stale_epochs.assign(stale)
    assert loop.is_finished()
    assert loop.advise_longer() == advice


@pytest.mark.slow
def test_slow_steps_before_the_first_epoch_are_announced(small_config, splits, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    config = dataclasses.replace(small_config, encoder="pooled_lstm", ngrams=2, epochs=1)
    make_small_loop(config, splits, tmp_path).fit()
    ours = [record.message for record in caplog.records if record.name.startswith("trainer.")]
    starting, fitting, chosen, compiling, epoch, end = ours
    assert starting.endswith("starting at step 0")
    assert fitting == f"fitting n-grams to {len(splits[1])} texts"
    assert chosen.startswith("chosen by cross-fitting: n-grams in at least ")
    assert compiling == "compiling the training step"
    assert epoch.startswith("epoch 1/1  train loss ")
    assert end == "finished; best epoch 1 of 1"


@pytest.mark.slow
def test_max_steps_ends_an_epoch_early_and_records_it(small_config, splits, tmp_path):
    config = dataclasses.replace(small_config, max_steps=3)
    loop = make_small_loop(config, splits, tmp_path)
    loop.fit()
    assert int(loop.state.step) == 3
    assert (tmp_path / "history.csv").read_text().splitlines()[1].startswith("1,3,")
