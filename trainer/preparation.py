"""Prepares a run: reads its data, creates or checks its record, and builds the training loop."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import tensorflow as tf

from model.labels import count_logits, to_targets
from pipeline.corpus import Corpus
from pipeline.errors import UserError
from pipeline.examples import Examples
from pipeline.files.paths import expand_home
from pipeline.vocabulary import Vectorizer, fingerprint, save
from trainer.agreement import check_same_examples
from trainer.artifacts.run_record import RunRecord
from trainer.artifacts.trained_run import load, load_vocabulary
from trainer.config import TrainConfig
from trainer.data import check_data, check_same_data, make_vectorizer, warn_of_single_tokens
from trainer.loop import TrainingLoop, total_steps
from trainer.objectives.class_weights import class_weights
from trainer.objectives.distillation import (
    apply_soft_labels,
    check_teacher,
    copy_scorers,
    write_soft_labels,
)
from trainer.runtime import devices
from trainer.runtime.files import replacing
from trainer.runtime.replicas import Replicas, one_replica
from trainer.runtime.signals import check_stop

_log = logging.getLogger(__name__)

# The examples that training reads, as token ids: train, validation and, with a teacher, unlabelled.
_Splits = dict[str, Examples]


def prepare_run(
    config: TrainConfig,
    corpus: Corpus,
    model_dir: Path,
    *,
    record: RunRecord | None = None,
    replicas: Replicas | None = None,
) -> TrainingLoop:
    """Prepares the training loop of a new or a resumed run.

    For a new run, which has no record yet, writes config.json, the vocabulary and the soft labels.
    If `replicas` is None, one replica trains.

    Raises:
        UserError, RunError, Interrupted: As `trainer.run.train`.
    """
    replicas = replicas or one_replica()
    with replicas.fail_together():
        if record is None:
            check_data(corpus, config)
        vocabulary = corpus.vocabulary() if record is None else load_vocabulary(model_dir, record)
        splits = _read_splits(config, corpus, make_vectorizer(vocabulary, config))
        check_stop()
    check_same_examples(replicas, vocabulary, splits)
    with replicas.fail_together():
        names = corpus.dataset.label_names
        weights = class_weights(config.class_weights, splits["train"].labels, names)
        if record is None:
            record = _create_run(config, model_dir, vocabulary, corpus, splits)
        else:
            _check_resumed(record, corpus, splits, model_dir)
        training = splits["train"]
        if "unlabelled" in splits:
            training = _with_soft_labels(training, splits["unlabelled"], model_dir, len(names))
    loop = TrainingLoop(
        dataclasses.replace(record, config=config),
        model_dir,
        vocabulary=vocabulary,
        training=training,
        class_weights=weights,
        validation=splits.get("validation", training),
        replicas=replicas,
    )
    if config.teacher and int(loop.state.step) == 0:
        copy_scorers(loop.state.model, load(expand_home(config.teacher)).evaluator.model)
    if not loop.is_finished():
        if int(loop.state.step):
            record.warn_of_changes(model_dir)
        if record.config != config:
            dataclasses.replace(record, config=config).write(model_dir)
    return loop


def _read_splits(config: TrainConfig, corpus: Corpus, vectorizer: Vectorizer) -> _Splits:
    names = ("train", "validation") if corpus.has_validation else ("train",)
    splits = {name: corpus.examples(name, vectorizer) for name in names}
    if config.teacher:
        unlabelled = corpus.unlabelled(vectorizer)
        if len(unlabelled):
            splits["unlabelled"] = unlabelled
    counts = ", ".join(f"{count} {split}" for split, count in _sizes(splits).items())
    _log.info("%s: examples: %s; %d token ids", config.dataset, counts, vectorizer.vocabulary_size)
    return splits


def _with_soft_labels(
    labelled: Examples, unlabelled: Examples, model_dir: Path, class_count: int
) -> Examples:
    """Returns all examples to train on, with targets in place of labels."""
    logit_count = count_logits(class_count)
    targets = to_targets(tf.constant(labelled.labels), logit_count).numpy()
    labelled = dataclasses.replace(labelled, labels=targets)
    return labelled.concatenate(apply_soft_labels(model_dir, unlabelled, logit_count))


def _sizes(splits: _Splits) -> dict[str, int]:
    return {name: len(examples) for name, examples in splits.items()}


def _names_in_corpus(splits: _Splits) -> list[str]:
    return ["unsupervised" if name == "unlabelled" else name for name in splits]


def _create_run(
    config: TrainConfig, model_dir: Path, vocabulary: list[str], corpus: Corpus, splits: _Splits
) -> RunRecord:
    """Checks a new run and writes its files. It writes config.json last, which creates the run."""
    warn_of_single_tokens(splits["train"], config)
    training, names = splits["train"], corpus.dataset.label_names
    if "unlabelled" in splits:
        training = training.concatenate(splits["unlabelled"])
        _compute_soft_labels(config, model_dir, vocabulary, names, splits["unlabelled"])
    check_warmup_steps(config, total_steps(config, training))
    _write_vocabulary(model_dir / "vocabulary.txt", vocabulary)
    record = RunRecord(
        config,
        precision=devices.choose_precision(config.precision),
        label_names=names,
        fingerprint=fingerprint(vocabulary),
        sizes=_sizes(splits),
        data=corpus.fingerprints(_names_in_corpus(splits)),
        branches=devices.choose_branches(config.batch_size),
    )
    record.write(model_dir)
    return record


def check_warmup_steps(config: TrainConfig, steps: int) -> None:
    """Checks that the warm-up is not longer than the run of `steps` steps; raises a UserError."""
    if config.warmup_steps > steps:
        raise UserError(
            f"--warmup_steps={config.warmup_steps} is longer than the whole run of {steps} steps; "
            f"use at most --warmup_steps={max(1, steps // 10)}, or more --epochs"
        )


def _compute_soft_labels(
    config: TrainConfig,
    model_dir: Path,
    vocabulary: list[str],
    label_names: tuple[str, ...],
    unlabelled: Examples,
) -> None:
    """Writes the teacher's probabilities of the unlabelled examples to the student's folder."""
    teacher = load(expand_home(config.teacher))
    check_teacher(teacher.config, config)
    if teacher.vectorizer.tokens != vocabulary:
        raise UserError(
            f"--teacher={config.teacher} has another vocabulary: it was trained on other examples "
            f"of the data set {config.dataset}"
        )
    if teacher.label_names != label_names:  # its probabilities would teach the wrong label
        raise UserError(
            f"--teacher={config.teacher} has the labels {teacher.label_names}, but here they are "
            f"{label_names}; use its labels"
            + (f", with --positive_label={teacher.label_names[1]}" if len(label_names) == 2 else "")
        )
    _log.info("scoring %d unlabelled examples with %s", len(unlabelled), config.teacher)
    probabilities = teacher.evaluator.predict(unlabelled, description="scoring with the teacher")
    write_soft_labels(model_dir, probabilities[:, -count_logits(len(label_names)) :])


def _write_vocabulary(path: Path, vocabulary: list[str]) -> None:
    with replacing(path) as new:
        save(vocabulary, new)
        # An equal file is from an attempt that was stopped before it wrote config.json.
        if path.exists() and path.read_bytes() != new.read_bytes():
            raise UserError(
                f"{path} is not the vocabulary of this run, and would be replaced; move it away, "
                "or name another --model_dir"
            )


def _check_resumed(record: RunRecord, corpus: Corpus, splits: _Splits, model_dir: Path) -> None:
    """Checks that a resumed run reads the data that it started with."""
    sizes = _sizes(splits)
    if record.sizes != sizes:
        raise UserError(
            f"{model_dir} contains a run on other data named {record.config.dataset}: it was "
            f"trained on {record.sizes} examples, and there are {sizes} now; restore the data, or "
            "name another --model_dir"
        )
    check_same_data(record.data, corpus, _names_in_corpus(splits), run=f"the run in {model_dir}")
