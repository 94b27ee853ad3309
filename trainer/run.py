"""A run from its settings to its results."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import shutil
import tempfile
from pathlib import Path

from pipeline import vocabulary
from pipeline.errors import Fault, Mistake
from pipeline.reviews import Reviews
from pipeline.vocabulary import Vectorizer
from trainer import devices, environment
from trainer.agreement import compare_data, compare_settings, compare_start
from trainer.building import build_model, build_objective, build_optimizer
from trainer.checkpoints import Checkpoints, TrainState
from trainer.config import TrainConfig, changeable
from trainer.data import Data, make_vectorizer, open_data
from trainer.data_checks import check_data, check_same_data, check_steps
from trainer.files import remove_unfinished, replacing
from trainer.lock import held
from trainer.records import History, RunRecord, read_json, write_json
from trainer.replicas import Replicas, one_replica, open_replicas
from trainer.run_folder import check_holds_no_run, check_links
from trainer.sources import TaughtLabels, ask_teacher, inherit, load_start
from trainer.stopping import StopSignals
from trainer.text_checks import warn_of_single_tokens
from trainer.trained import load, load_vocabulary
from trainer.trainer import Trainer, last_step

_log = logging.getLogger(__name__)

_NOT_NEEDED = shutil.ignore_patterns("lock", "export", "evaluation", "*tfevents*")


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
    _set_threads(config, model_dir)
    replicas = open_replicas(config.distribute, stop)
    stop.listen_again()  # with several processes TensorFlow has taken SIGTERM for itself
    replicas.check(config)
    with replicas.losses_explained():
        compare_settings(replicas, config)
        return _train_together(config, model_dir, replicas, stop)


def _train_together(
    config: TrainConfig, model_dir: Path, replicas: Replicas, stop: StopSignals
) -> dict[str, object]:
    """Trains as one of the processes of a run, or as the only one."""
    if replicas.is_chief:
        with contextlib.ExitStack() as stack:
            with replicas.together():
                stack.enter_context(held(model_dir))
            return _train(config, model_dir, replicas, stop)
    # Only the chief writes to model_dir: the others do to a folder of their own.
    with tempfile.TemporaryDirectory() as name:
        own = Path(name)
        with replicas.together():
            if model_dir.is_dir():
                shutil.copytree(model_dir, own, dirs_exist_ok=True, ignore=_NOT_NEEDED)
        _train(config, own, replicas, stop)
    return {}


def _set_threads(config: TrainConfig, model_dir: Path) -> None:
    """Sets TensorFlow's threads for the parts of a batch; a run in the folder decides those."""
    record = RunRecord.read(model_dir)
    devices.set_threads(config.batch_size, record and record.branches)


def _train(
    config: TrainConfig, model_dir: Path, replicas: Replicas, stop: StopSignals
) -> dict[str, object]:
    check_links(model_dir)
    with replicas.together():
        record = RunRecord.read(model_dir)
        _check_record(record, config, model_dir)
        if record is not None:
            remove_unfinished(model_dir, older_than=24 * 3600)  # predict --output may write here
        label_names = record.label_names if record else None
        data = open_data(config, stop=stop, label_names=label_names)
    trainer = make_run(config, data, model_dir, record=record, replicas=replicas, stop=stop)
    compare_start(replicas, trainer.state)
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
    replicas = replicas or one_replica()
    with replicas.together():
        if record is None:
            check_data(data, config)
        words = data.vocabulary() if record is None else load_vocabulary(model_dir, record)
        vectorizer = make_vectorizer(words, config)
        training, validation, unlabelled = _read_examples(config, data, vectorizer)
        sizes = _sizes(train=training, validation=validation, unlabelled=unlabelled)
        _log_sizes(config, sizes, vectorizer)
        stop.check()
    compare_data(replicas, words, training, validation, unlabelled)
    splits = ["train", "validation"] + ["unsupervised"] * bool(unlabelled)
    with replicas.together():
        if record is None:
            _prepare_new(config, model_dir, words, training, unlabelled, stop)
            record = _begin(model_dir, config, words, data, splits, sizes)
        else:
            _check_sizes(record, sizes, model_dir)
            check_same_data(record.data, data, splits, what=f"the run in {model_dir}")
        if config.teacher:
            unlabelled = TaughtLabels(model_dir).given_to(unlabelled)
        training = _joined(training, unlabelled)
    trainer = make_trainer(
        config,
        model_dir,
        vectorizer,
        precision=record.precision,
        label_names=record.label_names,
        training=training,
        validation=validation,
        replicas=replicas,
        branches=record.branches,
    )
    if int(trainer.state.step) and not trainer.is_finished():
        environment.warn_of_changes(record, model_dir)
    if not int(trainer.state.step):
        inherit(config, words, trainer.state.model)
    if record.config != config and not trainer.is_finished():
        dataclasses.replace(record, config=config).write(model_dir)
    return trainer


def _joined(training: Reviews, unlabelled: Reviews | None) -> Reviews:
    return training.joined(unlabelled) if unlabelled else training


def _read_examples(
    config: TrainConfig, data: Data, vectorizer: Vectorizer
) -> tuple[Reviews, Reviews, Reviews | None]:
    """Returns the train, the validation and, where training reads them, the unlabelled examples."""
    training, validation = (data.examples(split, vectorizer) for split in ("train", "validation"))
    unlabelled = data.unlabelled(vectorizer) if _reads_unlabelled(config, data) else None
    return training, validation, unlabelled


def _prepare_new(
    config: TrainConfig,
    model_dir: Path,
    words: list[str],
    training: Reviews,
    unlabelled: Reviews | None,
    stop: StopSignals,
) -> None:
    """Checks what a new run starts from, and asks its teacher, before its config.json exists."""
    warn_of_single_tokens(training, config)
    if config.init_from:
        load_start(config, words)
    if config.teacher:
        ask_teacher(config, model_dir, words, unlabelled, stop)
    check_steps(config, last_step(config, _joined(training, unlabelled)))


def _log_sizes(config: TrainConfig, sizes: dict[str, int], vectorizer: Vectorizer) -> None:
    counts = ", ".join(f"{count} {split}" for split, count in sizes.items())
    _log.info("%s: reviews: %s; %d token ids", config.dataset, counts, vectorizer.vocabulary_size)


def _sizes(**splits: Reviews | None) -> dict[str, int]:
    return {name: len(examples) for name, examples in splits.items() if examples}


def _reads_unlabelled(config: TrainConfig, data: Data) -> bool:
    """Says whether training reads reviews without labels: it must, or it can and there are some."""
    can = config.adversarial == "virtual" or config.objective == "next_words"
    return bool(config.teacher) or (can and data.has_unlabelled())


def _begin(
    model_dir: Path,
    config: TrainConfig,
    words: list[str],
    data: Data,
    splits: list[str],
    sizes: dict[str, int],
) -> RunRecord:
    """Writes what a run is known by; config.json last, since with it there is a run."""
    _write_vocabulary(model_dir / "vocabulary.txt", words)
    record = RunRecord(
        config,
        precision=devices.precision(config.precision),
        label_names=data.dataset.label_names,
        fingerprint=vocabulary.fingerprint(words),
        sizes=sizes,
        data=data.fingerprints(splits),
        branches=devices.branches(config.batch_size),
    )
    record.write(model_dir)
    return record


def _write_vocabulary(path: Path, words: list[str]) -> None:
    with replacing(path) as new:
        vocabulary.save(words, new)
        # An equal one was written by this run, before it was stopped.
        if path.exists() and path.read_bytes() != new.read_bytes():
            raise Mistake(
                f"{path} is not this run's vocabulary, and would be replaced; move it away, or "
                "name another --model_dir"
            )


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
    branches: int | None = None,
) -> Trainer:
    """Makes a trainer whose state is that of the folder's newest checkpoint, or a fresh one.

    Raises:
        Fault: No checkpoint of the run can be read, or they are gone.
    """
    if precision != devices.precision(config.precision):
        _log.warning("%s goes on in %s, as it was begun", model_dir, precision)
    with replicas.scope():
        model = build_model(config, vectorizer.vocabulary_size, precision, branches)
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
    else:  # stopped after its last checkpoint, maybe before its last row, which this adds
        History(model_dir, epochs=int(trainer.state.epoch))
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
        check_holds_no_run(model_dir)
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
            f"{model_dir} holds a run on other data of the name {record.config.dataset}: it was "
            f"trained on {record.sizes} examples, and there are {sizes} now; put the data back, or "
            "name another --model_dir"
        )
