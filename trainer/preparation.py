"""Prepares a run: reads its data, creates or checks its record, and builds the training loop."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from pipeline.corpus import Corpus
from pipeline.errors import RunError, UserError
from pipeline.examples import Examples
from pipeline.vocabulary import FIRST_TOKEN_ID, Vectorizer, fingerprint, save
from trainer.agreement import check_same_examples
from trainer.artifacts.checkpoints import Checkpoints
from trainer.artifacts.run_record import RunRecord
from trainer.artifacts.state import TrainState
from trainer.artifacts.trained_run import TrainedRun, load, load_vocabulary
from trainer.building import build_model, build_objective, build_optimizer
from trainer.config import TrainConfig
from trainer.data import (
    check_data,
    check_same_data,
    check_steps,
    make_vectorizer,
    warn_of_single_tokens,
)
from trainer.loop import TrainingLoop, last_step
from trainer.objectives.distillation import (
    SoftLabels,
    check_teacher,
    check_vocabulary,
    copy_scorers,
)
from trainer.runtime import devices, environment
from trainer.runtime.files import replacing
from trainer.runtime.replicas import Replicas, one_replica
from trainer.runtime.signals import check_stop

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Splits:
    """The examples that training reads, as token ids."""

    train: Examples
    validation: Examples
    unlabelled: Examples | None  # only with a teacher

    def by_name(self) -> dict[str, Examples]:
        splits = {"train": self.train, "validation": self.validation}
        return splits | ({"unlabelled": self.unlabelled} if self.unlabelled else {})

    def sizes(self) -> dict[str, int]:
        return {name: len(examples) for name, examples in self.by_name().items()}

    def names_in_corpus(self) -> list[str]:
        return ["train", "validation"] + ["unsupervised"] * bool(self.unlabelled)

    def training(self) -> Examples:
        """Returns all examples to train on, the unlabelled ones included."""
        return self.train.concatenate(self.unlabelled) if self.unlabelled else self.train


def prepare_run(
    config: TrainConfig,
    corpus: Corpus,
    model_dir: Path,
    *,
    record: RunRecord | None = None,
    replicas: Replicas | None = None,
) -> TrainingLoop:
    """Prepares the training loop of a new or a resumed run.

    For a new run, writes config.json, the vocabulary and the soft labels.

    Args:
        config: The settings.
        corpus: The data.
        model_dir: The folder of the run.
        record: The record of a resumed run; None for a new run.
        replicas: The replicas that train; None for one replica.

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
    check_same_examples(replicas, vocabulary, splits.by_name())
    with replicas.fail_together():
        if record is None:
            record = _create_run(config, model_dir, vocabulary, corpus, splits)
        else:
            _check_resumed(record, corpus, splits, model_dir)
        if splits.unlabelled:
            soft_labelled = SoftLabels(model_dir).apply_to(splits.unlabelled)
            splits = dataclasses.replace(splits, unlabelled=soft_labelled)
    loop = make_loop(
        dataclasses.replace(record, config=config),
        model_dir,
        vocabulary=vocabulary,
        training=splits.training(),
        validation=splits.validation,
        replicas=replicas,
    )
    _start_or_resume(loop, record, model_dir)
    return loop


def _read_splits(config: TrainConfig, corpus: Corpus, vectorizer: Vectorizer) -> _Splits:
    train, validation = (corpus.examples(split, vectorizer) for split in ("train", "validation"))
    unlabelled = corpus.unlabelled(vectorizer) if config.teacher else None
    splits = _Splits(train, validation, unlabelled)
    counts = ", ".join(f"{count} {split}" for split, count in splits.sizes().items())
    _log.info("%s: examples: %s; %d token ids", config.dataset, counts, vectorizer.vocabulary_size)
    return splits


def _create_run(
    config: TrainConfig, model_dir: Path, vocabulary: list[str], corpus: Corpus, splits: _Splits
) -> RunRecord:
    """Checks a new run and writes its files. It writes config.json last, which creates the run."""
    warn_of_single_tokens(splits.train, config)
    if splits.unlabelled:
        _compute_soft_labels(config, model_dir, vocabulary, splits.unlabelled)
    check_steps(config, last_step(config, splits.training()))
    _write_vocabulary(model_dir / "vocabulary.txt", vocabulary)
    record = RunRecord(
        config,
        precision=devices.choose_precision(config.precision),
        label_names=corpus.dataset.label_names,
        fingerprint=fingerprint(vocabulary),
        sizes=splits.sizes(),
        data=corpus.fingerprints(splits.names_in_corpus()),
        branches=devices.choose_branches(config.batch_size),
    )
    record.write(model_dir)
    return record


def _compute_soft_labels(
    config: TrainConfig, model_dir: Path, vocabulary: list[str], unlabelled: Examples
) -> None:
    """Writes the teacher's probabilities of the unlabelled examples to the student's folder."""
    teacher = _load_teacher(config)
    check_teacher(teacher.config, config)
    check_vocabulary(teacher.vectorizer.tokens, vocabulary, config)
    _log.info("scoring %d unlabelled examples with %s", len(unlabelled), config.teacher)
    probabilities = teacher.evaluator.predict(unlabelled, description="scoring with the teacher")
    SoftLabels(model_dir).write(probabilities)


def _load_teacher(config: TrainConfig) -> TrainedRun:
    return load(Path(config.teacher).expanduser())


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
    sizes = splits.sizes()
    if record.sizes != sizes:
        raise UserError(
            f"{model_dir} contains a run on other data named {record.config.dataset}: it was "
            f"trained on {record.sizes} examples, and there are {sizes} now; restore the data, or "
            "name another --model_dir"
        )
    check_same_data(record.data, corpus, splits.names_in_corpus(), run=f"the run in {model_dir}")


def make_loop(
    record: RunRecord,
    model_dir: Path,
    *,
    vocabulary: list[str],
    training: Examples,
    validation: Examples,
    replicas: Replicas,
) -> TrainingLoop:
    """Builds a training loop, and restores its state from the newest checkpoint, if there is one.

    Args:
        record: The record of the run.
        model_dir: The folder of the run.
        vocabulary: The vocabulary.
        training: All examples to train on.
        validation: The validation split.
        replicas: The replicas that train.

    Raises:
        RunError: No checkpoint of the run can be read, or the checkpoints are missing.
    """
    config = record.config
    devices.check_precision(config.precision, record.precision, str(model_dir))
    with replicas.scope():
        size = len(vocabulary) + FIRST_TOKEN_ID
        model = build_model(config, size, record.precision, record.branches)
        optimizer = build_optimizer(config, model, last_step(config, training))
    objective = build_objective(model, replicas)
    state = TrainState(
        model, optimizer, fingerprint=record.fingerprint, new_metrics=objective.new_metrics
    )
    return TrainingLoop(
        config,
        state,
        objective=objective,
        training=training,
        validation=validation,
        replicas=replicas,
        checkpoints=_restore(state, model_dir),
        vocabulary=vocabulary,
        label_names=record.label_names,
    )


def _restore(state: TrainState, model_dir: Path) -> Checkpoints:
    """Restores a state from the newest checkpoint, if there is one, and logs its step."""
    checkpoints = Checkpoints(model_dir, state)
    is_resumed = checkpoints.restore()
    if not is_resumed and (model_dir / "history.csv").exists():
        raise RunError(
            f"{model_dir} has a history but no checkpoints to resume from; restore them, or start "
            "a new run in another --model_dir"
        )
    _log.info(
        "%s, %s, %d parameters; %s step %d",
        devices.describe(),
        state.model.dtype_policy.name,
        state.model.count_params(),
        "resuming at" if is_resumed else "starting at",
        int(state.step),
    )
    return checkpoints


def _start_or_resume(loop: TrainingLoop, record: RunRecord, model_dir: Path) -> None:
    """Copies the teacher's scorers in a new run; warns of changes in a resumed run."""
    config = loop.config
    if int(loop.state.step) == 0:
        if config.teacher:
            copy_scorers(loop.state.model, _load_teacher(config).evaluator.model)
    elif not loop.is_finished():
        environment.warn_of_changes(record.environment, record.branches, config, model_dir)
    if record.config != config and not loop.is_finished():
        dataclasses.replace(record, config=config).write(model_dir)
