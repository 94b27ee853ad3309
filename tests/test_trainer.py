import dataclasses
import json
import logging
import math
import re
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as reference

from pipeline import vocabulary
from pipeline.batches import evaluation_batches, training_batches
from pipeline.errors import RunError, UserError
from trainer import run as runs
from trainer.artifacts.run_record import RunRecord
from trainer.artifacts.trained_run import load
from trainer.data import make_vectorizer, open_corpus
from trainer.evaluation.scoring import Evaluator
from trainer.preparation import make_loop
from trainer.runtime.replicas import one_replica
from trainer.runtime.signals import Interrupted, StopSignals, use_stop


@pytest.fixture(scope="module")
def data(small_config):
    """Vectorizer, training split and validation split of the small data set."""
    data = open_corpus(small_config)
    vectorizer = make_vectorizer(data.vocabulary(), small_config)
    return vectorizer, *(data.examples(split, vectorizer) for split in ("train", "validation"))


def trainer_of(config, data, folder, *, training=None, replicas=None):
    vectorizer, train, validation = data
    record = RunRecord(
        config,
        precision="float32" if config.precision == "auto" else config.precision,
        label_names=("neg", "pos"),
        fingerprint=vocabulary.fingerprint(vectorizer.words),
        sizes={},
    )
    return make_loop(
        record,
        folder,
        vocabulary=vectorizer.words,
        replicas=replicas or one_replica(),
        training=training or train,
        validation=validation,
    )


def step_on(trainer, token_ids, labels):
    trainer._step.train_steps(iter(tf.data.Dataset.from_tensors((token_ids, labels))), 1)


def test_eight_reviews_are_learned_by_heart(small_config, data, tmp_path):
    config = dataclasses.replace(small_config, batch_size=8, dropout=0.0, learning_rate=0.01)
    eight = data[1][:8]
    assert 0 < sum(eight.labels) < 8
    trainer = trainer_of(config, data, tmp_path, training=eight)
    for epoch in range(60):
        trainer._step.train_steps(
            iter(training_batches(eight, batch_size=8, seed=0, epoch=epoch)), 1
        )
    measured = Evaluator(trainer.state.model).evaluate(eight)
    assert measured["accuracy"] == 1.0
    assert measured["loss"] < 0.05


def test_steps_are_traced_once_for_all_lengths(small_config, data, tmp_path):
    trainer = trainer_of(small_config, data, tmp_path)
    batches = training_batches(data[1], batch_size=16, seed=0, epoch=0)
    assert len({token_ids.shape for token_ids, _ in batches}) > 2
    for count in (1, 2, 5):
        trainer._step.train_steps(iter(batches), count)
    assert int(trainer.state.step) == 8
    assert trainer._step.train_steps.experimental_get_tracing_count() == 1
    evaluator = Evaluator(trainer.state.model)
    evaluator.evaluate(data[1])
    evaluator.evaluate(data[2])
    evaluator.predict(data[2])
    assert evaluator.score_step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("decay", "middle", "last"),
    [("none", 1.0, 1.0), ("linear", 0.505, 0.01), ("cosine", 0.505, 0.01)],
)
def test_the_learning_rate_falls_until_the_last_step(
    small_config, data, tmp_path, decay, middle, last
):
    config = dataclasses.replace(small_config, decay=decay, max_steps=20)
    optimizer = trainer_of(config, data, tmp_path).state.optimizer
    for step, share in ((0, 1.0), (10, middle), (20, last)):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(config.learning_rate * share)


def test_steps_in_one_call_are_those_of_many_calls(small_config, data, tmp_path):
    batches = training_batches(data[1], batch_size=16, seed=0, epoch=0)
    weights = []
    for counts in ([6], [1, 3, 2]):
        trainer, iterator = trainer_of(small_config, data, tmp_path), iter(batches)
        for count in counts:
            trainer._step.train_steps(iterator, count)
        weights.append([variable.numpy() for variable in trainer.state.model.variables])
    for one, many in zip(*weights, strict=True):
        assert (one == many).all()


@pytest.mark.parametrize("count", [1, 100, 250])
def test_evaluation_counts_each_review_once(small_config, data, tmp_path, count):
    """Against scikit-learn, on parts of the split and all of it."""
    examples = data[1][:count]
    model = trainer_of(small_config, data, tmp_path).state.model
    logits = tf.concat(
        [model(ids) for ids, _ in evaluation_batches(examples, batch_size=64)], axis=0
    )
    scale = 2 / max(float(tf.math.reduce_std(logits)), 1e-3)  # as sure as a trained one
    model.scorers[0].logit.kernel.assign(model.scorers[0].logit.kernel * scale)
    model.scorers[0].logit.bias.assign([-scale * float(tf.reduce_mean(logits))])
    evaluator = Evaluator(model)
    assert len(examples) == count
    measured, probabilities = evaluator.evaluate(examples), evaluator.predict(examples)
    labels = examples.labels
    assert measured["accuracy"] == pytest.approx(np.mean((probabilities > 0.5) == labels))
    log_loss = reference.log_loss(labels, probabilities.astype(float), labels=[0, 1])
    assert measured["loss"] == pytest.approx(log_loss, abs=1e-5)
    if count > 1:
        assert measured["auc"] == pytest.approx(
            reference.roc_auc_score(labels, probabilities), abs=5e-3
        )


def test_predictions_are_in_the_order_of_the_reviews(small_config, data, tmp_path):
    model = trainer_of(small_config, data, tmp_path).state.model
    examples = data[1]
    predicted = Evaluator(model).predict(examples)
    one_by_one = [
        tf.sigmoid(model(tf.cast(examples.row(i)[np.newaxis], tf.int32)))[0] for i in range(10)
    ]
    np.testing.assert_allclose(predicted[:10], one_by_one, atol=1e-5)


def test_a_step_follows_the_clipped_gradient_of_the_mean_loss(small_config, data, tmp_path):
    """Against the step written out: dense gradients, their norm, clipping, Adam's first step."""
    config = dataclasses.replace(small_config, dropout=0.0, clip_norm=0.01)
    trainer = trainer_of(config, data, tmp_path)
    model = trainer.state.model
    token_ids, labels = next(iter(training_batches(data[1], batch_size=16, seed=0, epoch=0)))
    with tf.GradientTape() as tape:
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=model(token_ids))
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    gradients = [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
    before = [variable.numpy() for variable in model.trainable_variables]
    step_on(trainer, token_ids, labels)
    assert float(trainer.state.gradient_norm.result()) == pytest.approx(norm, rel=1e-4)
    assert norm > 0.01
    for variable, old, gradient in zip(model.trainable_variables, before, gradients, strict=True):
        clipped = gradient * 0.01 / norm
        # Keras adds epsilon to a root that is not yet corrected for its bias.
        step = config.learning_rate * clipped / (np.abs(clipped) + 1e-7 / np.sqrt(1 - 0.999))
        np.testing.assert_allclose(variable.numpy(), old - step, atol=2e-5)


def test_a_smaller_last_batch_is_a_smaller_step(small_config, data, tmp_path):
    """Half a batch gives half the gradient that it gives when it fills the batch."""
    config = dataclasses.replace(small_config, dropout=0.0)
    token_ids, labels = next(iter(evaluation_batches(data[1], batch_size=16)))

    def gradient_norm(*batches):
        trainer = trainer_of(config, data, tmp_path)
        for batch in batches:
            step_on(trainer, *batch)
        return float(trainer.state.gradient_norm.result())

    twice = gradient_norm((tf.repeat(token_ids[:8], 2, axis=0), tf.repeat(labels[:8], 2)))
    assert gradient_norm((token_ids[:8], labels[:8])) == pytest.approx(twice / 2, rel=1e-4)


def test_float16_trains_with_a_loss_scale(small_config, data, tmp_path):
    batch = next(iter(training_batches(data[1], batch_size=16, seed=0, epoch=0)))
    norms = []
    for precision in ("float32", "mixed_float16"):
        config = dataclasses.replace(small_config, precision=precision, dropout=0.0)
        trainer = trainer_of(config, data, tmp_path)
        step_on(trainer, *batch)
        norms.append(float(trainer.state.gradient_norm.result()))
    assert float(trainer.state.optimizer.scale_loss(1.0)) == 2.0**15
    assert norms[1] == pytest.approx(norms[0], rel=0.02)
    assert int(trainer.state.optimizer.iterations) == 1


def test_a_step_that_overflows_float16_is_skipped_and_many_are_a_fault(
    small_config, data, tmp_path
):
    config = dataclasses.replace(small_config, precision="mixed_float16")
    trainer = trainer_of(config, data, tmp_path)
    before = [variable.numpy() for variable in trainer.state.model.trainable_variables]
    trainer.state.optimizer.dynamic_scale.assign(float("inf"))
    with pytest.raises(RunError, match=r"gradient overflows float16: none of the last 2\d steps"):
        trainer.fit(tmp_path)
    for variable, old in zip(trainer.state.model.trainable_variables, before, strict=True):
        assert (variable.numpy() == old).all()


def test_training_stops_when_patience_ends(small_config, data, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    config = dataclasses.replace(
        small_config, epochs=50, learning_rate=0.05, early_stopping_patience=2
    )
    trainer = trainer_of(config, data, tmp_path)
    trainer.fit(tmp_path)
    state = trainer.state
    assert trainer.is_finished()
    best = int(state.best_epoch)
    assert int(state.epoch) == best + 2 < 50
    assert caplog.messages[-1] == (
        f"stopped: no better validation loss in the last 2 epochs; best epoch {best} of {best + 2}"
    )


def test_what_takes_time_before_the_first_epoch_ends_is_announced(
    small_config, data, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    config = dataclasses.replace(small_config, encoder="none", ngrams=2, epochs=1)
    trainer_of(config, data, tmp_path).fit(tmp_path)
    ours = [record.message for record in caplog.records if record.name.startswith("trainer.")]
    starting, counting, compiling, epoch, end = ours
    assert starting.endswith("starting at step 0")
    assert counting == f"counting n-grams in {len(data[1])} texts"
    assert compiling == "compiling the training step"
    assert epoch.startswith("epoch 1/1  train loss ")
    assert end == "finished; best epoch 1 of 1"


def test_max_steps_ends_an_epoch_early_and_records_it(small_config, data, tmp_path):
    config = dataclasses.replace(small_config, max_steps=3)
    trainer = trainer_of(config, data, tmp_path)
    trainer.fit(tmp_path)
    assert int(trainer.state.step) == 3
    assert (tmp_path / "history.csv").read_text().splitlines()[1].startswith("1,3,")


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_many_losses_in_a_row_that_are_no_numbers_are_a_fault(
    small_config, data, tmp_path, precision
):
    config = dataclasses.replace(small_config, batch_size=8, precision=precision)
    trainer = trainer_of(config, data, tmp_path)
    trainer.state.model.scorers[0].logit.bias.assign([float("nan")])
    told = r"the loss is nan: none of the last 2\d steps .* learning rate of 0\.005; try a tenth"
    with pytest.raises(RunError, match=told):
        trainer.fit(tmp_path)
    assert not list((tmp_path / "best").glob("*.index"))


def test_a_step_without_a_finite_gradient_is_not_taken_and_the_others_are(
    small_config, data, tmp_path, caplog, monkeypatch
):
    """A word of few reviews has become NaN; the rest is trained as if those were not there."""
    monkeypatch.setattr(logging.getLogger("trainer"), "propagate", True)
    trainer = trainer_of(small_config, data, tmp_path)
    state, table = trainer.state, trainer.state.model.scorers[0].embedding.embeddings
    batches = training_batches(data[1], batch_size=16, seed=0, epoch=0)
    ids = [set(np.unique(token_ids)) for token_ids, _ in batches]
    rare = next(i for i in range(table.shape[0]) if 0 < sum(i in batch for batch in ids) < 4)
    lost = sum(rare in batch for batch in ids)
    table.assign(tf.tensor_scatter_nd_update(table.value, [[rare]], [[math.nan] * 8]))
    with pytest.raises(Interrupted), use_stop(StopAfterEpoch(trainer)):
        trainer.fit(tmp_path)
    assert int(state.optimizer.iterations) == len(ids) - lost
    assert int(state.step) == len(ids)
    weights = [variable.numpy() for variable in state.model.trainable_variables]
    assert np.isnan(weights[0]).sum() == 8
    assert all(np.isfinite(weight).all() for weight in weights[1:])
    assert math.isfinite(state.totals.result()["loss"])
    told = re.findall(r"(\d) steps before step \d+ were not taken", caplog.text)
    # Those of the last window are told with the epoch's end, which was not reached.
    assert sum(map(int, told)) + int(trainer._step.lost_steps) == lost


class StopAfterEpoch(StopSignals):
    """A signal that comes when the first epoch is trained."""

    def __init__(self, trainer):
        super().__init__()
        self._trainer = trainer

    def check(self):
        if int(self._trainer.state.step) == self._trainer._steps_per_epoch:
            raise Interrupted(signal.SIGTERM)


def test_a_collapse_is_told_and_the_best_model_stays(
    small_config, data, tmp_path, caplog, monkeypatch
):
    """The second epoch starts from a model that answers the same to everything."""
    monkeypatch.setattr(logging.getLogger("trainer"), "propagate", True)
    _, train, _ = data
    config = dataclasses.replace(small_config, dropout=0.0, learning_rate=0.02, epochs=12)
    trainer = trainer_of(config, (data[0], train, train), tmp_path)
    trainer.fit(tmp_path)
    assert "collapsed" not in caplog.text
    best = int(trainer.state.best_epoch)
    longer = dataclasses.replace(config, epochs=13)
    trainer = trainer_of(longer, (data[0], train, train), tmp_path)
    trainer.state.model.scorers[0].logit.kernel.assign(
        tf.zeros_like(trainer.state.model.scorers[0].logit.kernel)
    )
    trainer.state.optimizer.learning_rate.assign(1e-9)
    trainer.fit(tmp_path)
    assert "training has collapsed: validation accuracy fell from" in caplog.text
    assert f"The model of epoch {best} stays the best" in caplog.text
    assert int(trainer.state.best_epoch) == best


def test_a_validation_loss_that_is_no_number_is_a_fault_and_not_recorded(
    small_config, data, tmp_path
):
    trainer = trainer_of(small_config, data, tmp_path)
    with pytest.raises(RunError, match="the validation loss is nan at step 0"):
        trainer._keep_best({"loss": float("nan"), "accuracy": 0.5, "auc": 0.5})
    assert not (tmp_path / "history.csv").exists()


def test_predictions_one_by_one_trace_once(trained):
    run = load(trained[0])
    for texts in ([b"good"], [b"bad", b"worse"], [b""]):
        run.predict(texts)
    assert run.evaluator.score_step.experimental_get_tracing_count() == 1


def test_the_whole_of_a_run_as_one_call(small_config, tmp_path):
    with StopSignals():
        results = runs.train(small_config, tmp_path / "run")
        again = runs.train(small_config, tmp_path / "run")
    path = tmp_path / "run" / "results.json"
    assert json.loads(path.read_text()) == results == again


def test_other_reviews_of_the_same_name_are_refused(small_config, tmp_path, trained):
    shutil.copytree(trained[0], tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    content["reviews"]["train"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="other data named imdb_offline"):
        runs.train(small_config, tmp_path / "run")


def test_results_that_were_lost_are_measured_again_and_curves_stay(small_config, tmp_path, trained):
    """As when the run is stopped while the test split is read."""
    shutil.copytree(trained[0], tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    with StopSignals():
        runs.train(small_config, tmp_path / "run")
    for name in ("results.json", "history.csv"):
        assert (tmp_path / "run" / name).read_text() == (trained[0] / name).read_text()
    for split in ("train", "validation"):
        files = [next((f / split).iterdir()) for f in (tmp_path / "run", trained[0])]
        assert files[0].read_bytes() == files[1].read_bytes()
