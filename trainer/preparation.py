"""Prepares a run: reads its data, creates or checks its record, and builds the training loop."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from model.labels import count_logits
from pipeline.corpus import Corpus
from pipeline.errors import UserError
from pipeline.examples import Examples
from pipeline.files.paths import expand_home
from pipeline.text.tokenizer import Tokenizer
from pipeline.vocabulary import fingerprint, save
from trainer.agreement import check_same_examples
from trainer.artifacts.pretrained import PretrainedEncoder
from trainer.artifacts.run_record import RunRecord
from trainer.artifacts.trained_run import load, load_vocabulary
from trainer.artifacts.training_set import SOFT_LABELS, TrainingSet, write_array
from trainer.config import NGRAM_TEACHER, TrainConfig
from trainer.data import check_data, check_same_data, make_tokenizer, warn_of_single_tokens
from trainer.loop import TrainingLoop
from trainer.objectives.class_weights import class_weights
from trainer.objectives.distillation import check_teacher
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
    pretrained: PretrainedEncoder | None = None,
) -> TrainingLoop:
    """Prepares the training loop of a new or a resumed run.

    For a new run, which has no record yet, writes config.json, the vocabulary and the soft labels.
    If `replicas` is None, one replica trains. `pretrained` is the encoder in `config.pretrained`,
    and the corpus must use its standardization.

    Raises:
        UserError, RunError, Interrupted: As `trainer.run.train`.
    """
    replicas = replicas or one_replica()
    with replicas.fail_together():
        if record is None:
            check_data(corpus, config)
        if record is not None:
            vocabulary = load_vocabulary(model_dir, record)
        else:
            vocabulary = list(pretrained.tokens) if pretrained else corpus.vocabulary()
        tokenizer = make_tokenizer(vocabulary, config, pretrained.tokenizer if pretrained else None)
        splits = _read_splits(config, corpus, tokenizer)
        check_stop()
    check_same_examples(replicas, vocabulary, splits)
    with replicas.fail_together():
        names = corpus.dataset.label_names
        weights = class_weights(config.class_weights, splits["train"].labels, names)
        if record is None:
            if pretrained:
                pretrained.write(model_dir)
            record = _create_run(config, model_dir, vocabulary, corpus, splits)
        else:
            _check_resumed(record, corpus, splits, model_dir)
    loop = TrainingLoop(
        dataclasses.replace(record, config=config),
        model_dir,
        token_names=tokenizer.token_names,
        training=TrainingSet(
            config, model_dir, splits["train"], splits.get("unlabelled"), class_count=len(names)
        ),
        class_weights=weights,
        validation=splits.get("validation", splits["train"]),
        replicas=replicas,
        pretrained=pretrained,
    )
    if not loop.is_finished():
        if int(loop.state.step):
            record.warn_of_changes(model_dir)
        if record.config != config:
            dataclasses.replace(record, config=config).write(model_dir)
    return loop


def _read_splits(config: TrainConfig, corpus: Corpus, tokenizer: Tokenizer) -> _Splits:
    names = ("train", "validation") if corpus.has_validation else ("train",)
    splits = {name: corpus.examples(name, tokenizer) for name in names}
    if config.teacher:
        unlabelled = corpus.unlabelled(tokenizer)
        if len(unlabelled):
            splits["unlabelled"] = unlabelled
    counts = ", ".join(f"{count} {split}" for split, count in _sizes(splits).items())
    _log.info("%s: examples: %s; %d token ids", config.dataset, counts, tokenizer.vocabulary_size)
    return splits


def _sizes(splits: _Splits) -> dict[str, int]:
    return {name: len(examples) for name, examples in splits.items()}


def _names_in_corpus(splits: _Splits) -> list[str]:
    return ["unsupervised" if name == "unlabelled" else name for name in splits]


def _create_run(
    config: TrainConfig, model_dir: Path, vocabulary: list[str], corpus: Corpus, splits: _Splits
) -> RunRecord:
    """Checks a new run and writes its files. It writes config.json last, which creates the run."""
    warn_of_single_tokens(splits["train"], config)
    names = corpus.dataset.label_names
    if "unlabelled" in splits and config.teacher != NGRAM_TEACHER:
        _compute_soft_labels(config, model_dir, corpus)
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


def _compute_soft_labels(config: TrainConfig, model_dir: Path, corpus: Corpus) -> None:
    """Writes the teacher's probabilities of the unlabelled examples to the student's folder.

    The student can then be resumed without the teacher.
    """
    teacher, names = load(expand_home(config.teacher)), corpus.dataset.label_names
    check_teacher(teacher.config, config, teacher.label_names, names)
    corpus = dataclasses.replace(corpus, standardization=teacher.tokenizer.standardization)
    unlabelled = corpus.unlabelled(teacher.tokenizer)
    _log.info("scoring %d unlabelled examples with %s", len(unlabelled), config.teacher)
    probabilities = teacher.evaluator.predict(unlabelled, description="scoring with the teacher")
    write_array(model_dir / SOFT_LABELS, probabilities[:, -count_logits(len(names)) :])


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
