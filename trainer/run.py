"""A run from its settings to its results, and a run's model from its folder."""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from model.classifier import SentimentClassifier
from model.language import LanguageModel
from pipeline import vocabulary
from pipeline.errors import Fault, Mistake
from pipeline.reviews import Reviews, in_memory
from pipeline.vocabulary import Vectorizer
from trainer import devices, report
from trainer.building import build_model, build_objective, build_optimizer
from trainer.checkpoints import Checkpoints, TrainState, restore_best
from trainer.config import TrainConfig, changeable
from trainer.data import Data, make_vectorizer, open_data
from trainer.evaluator import Evaluator, measured
from trainer.files import full_disk_told
from trainer.lock import held
from trainer.records import RunRecord, read_json, write_json
from trainer.replicas import Replicas, one_replica, open_replicas
from trainer.sources import TaughtLabels, check_is_start, check_is_teacher, start_from, take_over
from trainer.stopping import StopSignals
from trainer.trainer import Trainer, last_step

_log = logging.getLogger(__name__)

_NOT_NEEDED = shutil.ignore_patterns("lock", "export", "evaluation", "*tfevents*")


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a probability is made of, in log-odds, of which that of the second label is the sigmoid.

    Attributes:
        words: The standardized words that were read.
        weights: <float32>[len(words)], what each added.
        baseline: What there was without them; with the weights it adds up to the log-odds.
    """

    words: list[str]
    weights: np.ndarray
    baseline: float


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """What a finished or unfinished run has to offer: its best model and all that goes with it.

    Attributes:
        config: The settings.
        label_names: What labels 0 and 1 are called.
        vectorizer: Turns texts into the model's token ids.
        evaluator: Measures its model, which has its best weights.
        best_epoch: The epoch that those are of.
        validation_loss: Their loss on the validation split.
    """

    config: TrainConfig
    label_names: tuple[str, str]
    vectorizer: Vectorizer
    evaluator: Evaluator
    best_epoch: int
    validation_loss: float

    def predict(self, texts: Sequence[bytes]) -> np.ndarray:
        """Scores texts.

        Args:
            texts: UTF-8; any bytes are allowed.

        Returns:
            Probabilities of the second label, <float32>[len(texts)], in the same order.
        """
        token_ids = self.vectorizer(tf.constant(texts, tf.string))
        return self.evaluator.predict(in_memory(token_ids))

    def explain(self, text: bytes) -> Explanation:
        """Says which words of a text moved its probability, and how far.

        Args:
            text: UTF-8; any bytes are allowed.
        """
        token_ids = self.vectorizer(tf.constant([text]))[0]
        weights, baseline = self.evaluator.contributions(token_ids)
        return Explanation(self.vectorizer.read_of(text), weights.numpy(), float(baseline))

    def evaluate(
        self,
        data: Data,
        split: str,
        *,
        stop: StopSignals | None = None,
        report_dir: Path | None = None,
    ) -> dict[str, object]:
        """Measures the model on `train`, `validation` or `test` of its data set.

        Args:
            data: The data set, opened.
            split: The split.
            stop: Asked between batches whether to go on.

            report_dir: Where errors.csv and curves.png of the evaluation go; None for none.

        Returns:
            dataset, split, examples, loss, accuracy, auc, calibration_error, and what
            `report.details` has.

        Raises:
            Stopped: A signal came.
        """
        examples = data.examples(split, self.vectorizer)
        logits = self.evaluator.logits(examples, stop=stop, what="scoring")
        if report_dir:
            self._report(data, split, logits, examples.labels, report_dir)
        about = {"dataset": data.dataset.name, "split": split, "examples": len(examples)}
        about |= measured(examples.labels, logits)
        return about | report.details(logits, examples.labels, examples.lengths)

    def _report(
        self, data: Data, split: str, logits: np.ndarray, labels: np.ndarray, folder: Path
    ) -> None:
        chosen = report.worst(logits, labels)
        texts = data.original_texts(split, chosen)
        with full_disk_told("the report", folder):
            folder.mkdir(parents=True, exist_ok=True)
            of_them = (texts, logits[chosen], labels[chosen], self.label_names)
            report.write_errors(folder / "errors.csv", *of_them)
            report.draw(folder / "curves.png", logits, labels)


def load(model_dir: Path, *, precision: str | None = None) -> TrainedRun:
    """Loads the best model of the run in a folder; writes nothing.

    Args:
        model_dir: The run's folder.
        precision: The policy to compute by, in place of the one it was trained in.

    Raises:
        Mistake: There is no trained run there, or its parts do not belong together.
        Fault: Something there is damaged.
    """
    record = read_record(model_dir)
    config = record.config
    if config.objective != "sentiment":
        raise Mistake(
            f"{model_dir} holds a language model of scripts.pretrain, which tells no sentiment; "
            f"train from it: python -m scripts.train --model_dir=runs/NAME --init_from={model_dir}"
        )
    if precision is None and record.precision != devices.precision(config.precision):
        _log.warning(
            "%s was trained in %s and is computed in it here as well, where %s is usual",
            model_dir,
            record.precision,
            devices.precision(config.precision),
        )
    vectorizer, model, *best = _load_best(model_dir, record, precision or record.precision)
    return TrainedRun(config, record.label_names, vectorizer, Evaluator(model), *best)


def read_record(model_dir: Path) -> RunRecord:
    """Reads what a folder's run is known by.

    Raises:
        Mistake: There is no run there.
        Fault: config.json is damaged.
    """
    record = RunRecord.read(model_dir)
    if record is None:
        raise Mistake(
            f"{model_dir} holds no run (no config.json); "
            f"train one: python -m scripts.train --model_dir={model_dir}"
        )
    return record


def _load_best(
    model_dir: Path, record: RunRecord, precision: str
) -> tuple[Vectorizer, SentimentClassifier | LanguageModel, int, float]:
    """Returns vectorizer, model, and the epoch and validation loss that its weights are of."""
    vectorizer = make_vectorizer(_load_vocabulary(model_dir, record), record.config)
    model = build_model(record.config, vectorizer.vocabulary_size, precision)
    best_epoch, loss = restore_best(model_dir, model, fingerprint=record.fingerprint)
    return vectorizer, model, best_epoch, loss


def train(config: TrainConfig, model_dir: Path, *, stop: StopSignals) -> dict[str, object]:
    """Trains, or goes on training, and measures the best model on the test split.

    Args:
        config: The settings; where the folder has a run, they must agree with it.
        model_dir: Where everything goes; made when there is something to write.
        stop: Asked between steps whether to go on.

    Returns:
        What results.json says; nothing in a process that is not the chief of several.

    Raises:
        Mistake: The settings cannot be used here, or another process trains here.
        Fault: Data or files are damaged, memory or disk do not suffice, or the loss is not a number
            any more.
        Stopped: A signal came; the state is saved, and calling again goes on.
    """
    _check_folder(model_dir)
    replicas = open_replicas(config.distribute)
    stop.listen_again()  # with several processes TensorFlow has taken SIGTERM for itself
    replicas.check(config)
    if replicas.is_chief:
        with held(model_dir):
            replicas.wait()
            return _train(config, model_dir, replicas, stop)
    # Only the chief writes to model_dir: the others do to a folder of their own.
    with tempfile.TemporaryDirectory() as name:
        own = Path(name)
        if model_dir.is_dir():
            shutil.copytree(model_dir, own, dirs_exist_ok=True, ignore=_NOT_NEEDED)
        replicas.wait()
        _train(config, own, replicas, stop)
    return {}


def _train(
    config: TrainConfig, model_dir: Path, replicas: Replicas, stop: StopSignals
) -> dict[str, object]:
    record = RunRecord.read(model_dir)
    _check_record(record, config, model_dir)
    data = open_data(config, stop=stop)
    trainer = make_run(config, data, model_dir, record=record, replicas=replicas, stop=stop)
    # Before, each process reads for itself; from here on all do the same.
    results = _fit(trainer, data, model_dir, replicas.agreed(stop))
    replicas.wait()  # a process that ends takes the others with it
    return results


def make_run(
    config: TrainConfig,
    data: Data,
    model_dir: Path,
    *,
    record: RunRecord | None = None,
    replicas: Replicas | None = None,
    stop: StopSignals,
) -> Trainer:
    """Makes the trainer of a run, and what the run is known by in its folder.

    Args:
        config: The settings.
        data: The data set that they name.
        model_dir: The run's folder.
        record: Its config.json; None where the run is new.
        replicas: Those that train; None for one.
        stop: Asked between parts of long work whether to go on.

    Raises:
        Mistake, Fault: As `train` does.
        Stopped: A signal came.
    """
    words = data.vocabulary() if record is None else _load_vocabulary(model_dir, record)
    vectorizer = make_vectorizer(words, config)
    training, validation = (data.examples(split, vectorizer) for split in ("train", "validation"))
    sizes = {"train": len(training), "validation": len(validation)}
    unlabelled = data.unlabelled(vectorizer) if _reads_unlabelled(config, data) else None
    if unlabelled:
        sizes["unlabelled"] = len(unlabelled)
    counts = ", ".join(f"{count} {split}" for split, count in sizes.items())
    _log.info("%s: reviews: %s; %d token ids", config.dataset, counts, vectorizer.vocabulary_size)
    stop.check()
    if record is None:
        if config.init_from:
            _load_start(config, words)
        if config.teacher:
            _ask_teacher(config, model_dir, words, unlabelled, stop)
        record = _begin(model_dir, config, words, data.dataset.label_names, sizes)
    else:
        _check_sizes(record, sizes, model_dir)
    if config.teacher:
        unlabelled = TaughtLabels(model_dir).given_to(unlabelled)
    if unlabelled:
        training = training.joined(unlabelled)
    trainer = make_trainer(
        config,
        model_dir,
        vectorizer,
        precision=record.precision,
        label_names=record.label_names,
        training=training,
        validation=validation,
        replicas=replicas or one_replica(),
    )
    if not int(trainer.state.step):
        _take_over(config, words, trainer.state.model)
    if record.config != config and not trainer.is_finished():
        dataclasses.replace(record, config=config).write(model_dir)
    return trainer


def _reads_unlabelled(config: TrainConfig, data: Data) -> bool:
    """Says whether training reads reviews without labels: it must, or it can and there are some."""
    can = config.adversarial == "virtual" or config.objective == "next_words"
    return bool(config.teacher) or (can and data.has_unlabelled())


def _take_over(config: TrainConfig, words: list[str], model: SentimentClassifier) -> None:
    """Gives a new model the weights that other runs have for it."""
    if config.teacher:
        take_over(model, load(_teacher_dir(config)).evaluator.model)
    if config.init_from:
        start_from(model, _load_start(config, words))


def _load_start(config: TrainConfig, words: list[str]) -> LanguageModel:
    """Loads what --init_from names, if it fits."""
    folder = Path(config.init_from).expanduser()
    record = read_record(folder)
    check_is_start(record.config, config)
    vectorizer, model, *_ = _load_best(folder, record, devices.precision(config.precision))
    _check_vocabulary("init_from", vectorizer.words, words, config)
    return model


def _check_vocabulary(flag: str, theirs: list[str], ours: list[str], config: TrainConfig) -> None:
    if theirs != ours:
        raise Mistake(
            f"--{flag}={getattr(config, flag)} has another vocabulary: it was trained on other "
            f"reviews of the name {config.dataset}"
        )


def _teacher_dir(config: TrainConfig) -> Path:
    return Path(config.teacher).expanduser()


def _ask_teacher(
    config: TrainConfig, model_dir: Path, words: list[str], unlabelled: Reviews, stop: StopSignals
) -> None:
    """Keeps what the teacher makes of the unlabelled reviews."""
    teacher = load(_teacher_dir(config))
    check_is_teacher(teacher.config, config)
    _check_vocabulary("teacher", teacher.vectorizer.words, words, config)
    _log.info("asking %s about %d unlabelled reviews", config.teacher, len(unlabelled))
    labels = teacher.evaluator.predict(unlabelled, stop=stop, what="asking the teacher")
    TaughtLabels(model_dir).write(labels)


def _begin(
    model_dir: Path,
    config: TrainConfig,
    words: list[str],
    label_names: tuple[str, str],
    sizes: dict[str, int],
) -> RunRecord:
    """Writes what a run is known by; config.json last, since with it there is a run."""
    with full_disk_told("vocabulary.txt", model_dir):
        vocabulary.save(words, model_dir / "vocabulary.txt")
    record = RunRecord(
        config,
        precision=devices.precision(config.precision),
        label_names=label_names,
        fingerprint=vocabulary.fingerprint(words),
        sizes=sizes,
    )
    record.write(model_dir)
    return record


def make_trainer(
    config: TrainConfig,
    model_dir: Path,
    vectorizer: Vectorizer,
    *,
    precision: str,
    label_names: tuple[str, str],
    training: Reviews,
    validation: Reviews,
    replicas: Replicas,
) -> Trainer:
    """Makes a trainer whose state is that of the folder's newest checkpoint, or a fresh one.

    Raises:
        Fault: No checkpoint of the run can be read, or they are gone.
    """
    if precision != devices.precision(config.precision):
        _log.warning("%s goes on in %s, as it was begun", model_dir, precision)
    with replicas.scope():
        model = build_model(config, vectorizer.vocabulary_size, precision)
        optimizer = build_optimizer(config, model, last_step(config, training))
    objective = build_objective(config, model, replicas)
    state = TrainState(
        model,
        optimizer,
        fingerprint=vocabulary.fingerprint(vectorizer.words),
        new_metrics=objective.new_metrics,
    )
    checkpoints = Checkpoints(model_dir, state)
    resumed = checkpoints.restore()
    if not resumed and (model_dir / "history.csv").exists():
        raise Fault(
            f"{model_dir} has a history and no checkpoints to go on from; put them back, or train "
            "anew in another --model_dir"
        )
    _log.info(
        "%s, %s, %d parameters; %s step %d",
        devices.describe(),
        model.dtype_policy.name,
        model.count_params(),
        "going on from" if resumed else "starting at",
        int(state.step),
    )
    return Trainer(
        config,
        state,
        objective=objective,
        training=training,
        validation=validation,
        replicas=replicas,
        checkpoints=checkpoints,
        words=vectorizer.words,
        label_names=label_names,
    )


def _fit(trainer: Trainer, data: Data, model_dir: Path, stop: StopSignals) -> dict[str, object]:
    results = model_dir / "results.json"
    if not trainer.is_finished():
        results.unlink(missing_ok=True)  # it tells of fewer epochs
        trainer.fit(model_dir, stop=stop)
    elif results.is_file():
        _log.info(
            "%s is trained already; larger --epochs or --early_stopping_patience go on", model_dir
        )
        return read_json(results)
    state, objective = trainer.state, trainer.config.objective
    measure = _tested if objective == "sentiment" else _validated
    measured = measure(trainer, data, model_dir, stop) | {
        "best_epoch": int(state.best_epoch),
        "validation_loss": float(state.best_loss),
        "epochs": int(state.epoch),
        "steps": int(state.step),
        "train_seconds": round(float(state.seconds), 1),
        "params": state.model.count_params(),
    }
    write_json(measured, results)
    return measured


def _tested(trainer: Trainer, data: Data, model_dir: Path, stop: StopSignals) -> dict[str, object]:
    """Measures the best model on the test split."""
    del trainer
    return load(model_dir).evaluate(data, "test", stop=stop)


def _validated(
    trainer: Trainer, data: Data, model_dir: Path, stop: StopSignals
) -> dict[str, object]:
    """Tells of a language model, whose reviews of the test split nothing may read."""
    del model_dir, stop
    loss = float(trainer.state.best_loss)
    return {
        "dataset": data.dataset.name,
        "split": "validation",
        "loss": loss,
        "perplexity": math.exp(loss),
    }


def _check_folder(model_dir: Path) -> None:
    if set(str(model_dir)) & set("*?[]"):
        raise Mistake(f"--model_dir={model_dir} has one of *?[] in it, a pattern to TensorFlow")
    if model_dir.exists() and not model_dir.is_dir():
        raise Mistake(f"--model_dir={model_dir} is a file; name a folder")


def _check_record(record: RunRecord | None, config: TrainConfig, model_dir: Path) -> None:
    if record is None:
        if (model_dir / "checkpoints").exists():
            raise Mistake(f"{model_dir} has checkpoints and no config.json; name another folder")
        return
    differences = record.config.differences(config)
    if differences:
        raise Mistake(
            f"{model_dir} holds a run with other settings: {', '.join(differences)}; train with "
            f"those, or name another --model_dir (only {', '.join(changeable())} may change)"
        )


def _check_sizes(record: RunRecord, sizes: dict[str, int], model_dir: Path) -> None:
    if record.sizes != sizes:
        raise Mistake(
            f"{model_dir} holds a run on other reviews of the name {record.config.dataset}: "
            f"{record.sizes} there, {sizes} in --data_dir; name the folder it was trained from"
        )


def _load_vocabulary(model_dir: Path, record: RunRecord) -> list[str]:
    path = model_dir / "vocabulary.txt"
    words = vocabulary.load(path)
    found = vocabulary.fingerprint(words)
    if found != record.fingerprint:
        raise Mistake(
            f"{path} is not this run's vocabulary: its SHA-256 is {found[:12]}…, config.json says "
            f"{record.fingerprint[:12]}…; put the right file back"
        )
    return words
