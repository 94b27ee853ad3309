"""Prepares a run: what happens between opening its data and its first step."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

from pipeline import vocabulary
from pipeline.corpus import Corpus
from pipeline.errors import RunError, UserError
from pipeline.examples import Examples
from pipeline.vocabulary import Vectorizer
from trainer.agreement import compare_data
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
    unlabelled: Examples | None

    def sizes(self) -> dict[str, int]:
        """Counts the examples of each split."""
        return {name: len(examples) for name, examples in self.items().items()}

    def items(self) -> dict[str, Examples]:
        """Returns the splits by name."""
        splits = {"train": self.train, "validation": self.validation}
        return splits | ({"unlabelled": self.unlabelled} if self.unlabelled else {})

    def fingerprinted(self) -> list[str]:
        """Returns the names that `Corpus.fingerprints` has for these splits."""
        return ["train", "validation"] + ["unsupervised"] * bool(self.unlabelled)

    def joined(self) -> Examples:
        """Returns all examples that are trained on."""
        return self.train.concatenate(self.unlabelled) if self.unlabelled else self.train


def prepare_run(
    config: TrainConfig,
    corpus: Corpus,
    model_dir: Path,
    *,
    record: RunRecord | None = None,
    replicas: Replicas | None = None,
) -> TrainingLoop:
    """Makes the training loop of a run, and writes what identifies a new run to its folder.

    Args:
        config: The settings.
        corpus: The data of the run.
        model_dir: The folder of the run.
        record: Its config.json; None for a new run.
        replicas: The replicas that train; None for one.

    Raises:
        UserError, RunError, Interrupted: As `trainer.run.train` does.
    """
    replicas = replicas or one_replica()
    with replicas.all_or_none():
        if record is None:
            check_data(corpus, config)
        words = corpus.vocabulary() if record is None else load_vocabulary(model_dir, record)
        splits = _read_splits(config, corpus, make_vectorizer(words, config))
        check_stop()
    compare_data(replicas, words, splits.items())
    with replicas.all_or_none():
        if record is None:
            record = _begin(config, model_dir, words, corpus, splits)
        else:
            _check_sizes(record, splits.sizes(), model_dir)
            names = splits.fingerprinted()
            check_same_data(record.data, corpus, names, what=f"the run in {model_dir}")
        if splits.unlabelled:
            labelled = SoftLabels(model_dir).apply_to(splits.unlabelled)
            splits = dataclasses.replace(splits, unlabelled=labelled)
    current = dataclasses.replace(record, config=config)
    loop = make_loop(
        current,
        model_dir,
        words=words,
        training=splits.joined(),
        validation=splits.validation,
        replicas=replicas,
    )
    if not int(loop.state.step):
        if config.teacher:
            copy_scorers(loop.state.model, _load_teacher(config).evaluator.model)
    elif not loop.is_finished():
        environment.warn_of_changes(record.environment, record.branches, config, model_dir)
    if record.config != config and not loop.is_finished():
        current.write(model_dir)
    return loop


def make_loop(
    record: RunRecord,
    model_dir: Path,
    *,
    words: list[str],
    training: Examples,
    validation: Examples,
    replicas: Replicas,
) -> TrainingLoop:
    """Makes a training loop with the state of the folder's newest checkpoint, or a new state.

    Args:
        record: What identifies the run.
        model_dir: The folder of the run.
        words: The vocabulary.
        training: All examples that are trained on.
        validation: The validation split.
        replicas: The replicas that train.

    Raises:
        RunError: No checkpoint of the run can be read, or they are gone.
    """
    config = record.config
    precision = devices.resolve_precision(config.precision, record.precision, str(model_dir))
    with replicas.scope():
        model = build_model(config, Vectorizer.size_of(words), precision, record.branches)
        optimizer = build_optimizer(config, model, last_step(config, training))
    objective = build_objective(model, replicas)
    state = TrainState(
        model, optimizer, fingerprint=record.fingerprint, new_metrics=objective.new_metrics
    )
    checkpoints = Checkpoints(model_dir, state)
    is_resumed = checkpoints.restore()
    if not is_resumed and (model_dir / "history.csv").exists():
        raise RunError(
            f"{model_dir} has a history but no checkpoints to resume from; put them back, or start "
            "a new run in another --model_dir"
        )
    _log.info(
        "%s, %s, %d parameters; %s step %d",
        devices.describe(),
        model.dtype_policy.name,
        model.count_params(),
        "resuming at" if is_resumed else "starting at",
        int(state.step),
    )
    return TrainingLoop(
        config,
        state,
        objective=objective,
        training=training,
        validation=validation,
        replicas=replicas,
        checkpoints=checkpoints,
        vocabulary=words,
        label_names=record.label_names,
    )


def _read_splits(config: TrainConfig, corpus: Corpus, vectorizer: Vectorizer) -> _Splits:
    train, validation = (corpus.examples(split, vectorizer) for split in ("train", "validation"))
    unlabelled = corpus.unlabelled(vectorizer) if config.teacher else None
    splits = _Splits(train, validation, unlabelled)
    counts = ", ".join(f"{count} {split}" for split, count in splits.sizes().items())
    _log.info("%s: examples: %s; %d token ids", config.dataset, counts, vectorizer.vocabulary_size)
    return splits


def _begin(
    config: TrainConfig, model_dir: Path, words: list[str], corpus: Corpus, splits: _Splits
) -> RunRecord:
    """Checks and writes what identifies a new run; with config.json, the last file, there is one."""
    warn_of_single_tokens(splits.train, config)
    if splits.unlabelled:
        _compute_soft_labels(config, model_dir, words, splits.unlabelled)
    check_steps(config, last_step(config, splits.joined()))
    _write_vocabulary(model_dir / "vocabulary.txt", words)
    record = RunRecord(
        config,
        precision=devices.precision(config.precision),
        label_names=corpus.dataset.label_names,
        fingerprint=vocabulary.fingerprint(words),
        sizes=splits.sizes(),
        data=corpus.fingerprints(splits.fingerprinted()),
        branches=devices.branches(config.batch_size),
    )
    record.write(model_dir)
    return record


def _load_teacher(config: TrainConfig) -> TrainedRun:
    return load(Path(config.teacher).expanduser())


def _compute_soft_labels(
    config: TrainConfig, model_dir: Path, words: list[str], unlabelled: Examples
) -> None:
    """Writes the teacher's probabilities for the unlabelled examples to the student's folder."""
    teacher = _load_teacher(config)
    check_teacher(teacher.config, config)
    check_vocabulary(teacher.vectorizer.tokens, words, config)
    _log.info("scoring %d unlabelled examples with %s", len(unlabelled), config.teacher)
    probabilities = teacher.evaluator.predict(unlabelled, what="scoring with the teacher")
    SoftLabels(model_dir).write(probabilities)


def _write_vocabulary(path: Path, words: list[str]) -> None:
    with replacing(path) as new:
        vocabulary.save(words, new)
        # This run wrote an equal file if it was stopped before it wrote config.json.
        if path.exists() and path.read_bytes() != new.read_bytes():
            raise UserError(
                f"{path} is not this run's vocabulary, and would be replaced; move it away, or "
                "name another --model_dir"
            )


def _check_sizes(record: RunRecord, sizes: Mapping[str, int], model_dir: Path) -> None:
    if record.sizes != sizes:
        raise UserError(
            f"{model_dir} holds a run on other data of the name {record.config.dataset}: it was "
            f"trained on {record.sizes} examples, and there are {sizes} now; put the data back, or "
            "name another --model_dir"
        )
