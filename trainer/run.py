"""A run, from its settings to its results."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from pathlib import Path

from pipeline.corpus import Corpus
from pipeline.errors import UserError
from trainer.agreement import compare_settings, compare_start
from trainer.artifacts.run_folder import check_holds_no_run, check_links
from trainer.artifacts.run_record import RunRecord
from trainer.artifacts.trained_run import load
from trainer.config import TrainConfig, changeable
from trainer.data import open_corpus
from trainer.loop import TrainingLoop
from trainer.monitoring.history import History
from trainer.preparation import prepare_run
from trainer.runtime import devices
from trainer.runtime.files import read_json, remove_unfinished, write_json
from trainer.runtime.lock import run_lock
from trainer.runtime.replicas import Replicas, open_replicas
from trainer.runtime.signals import reinstall_handlers

_log = logging.getLogger(__name__)

_NOT_NEEDED = shutil.ignore_patterns("lock", "export", "evaluation", "*tfevents*")
_ABANDONED_SECONDS = 24 * 3600  # predict --output may write to the same folder


def train(config: TrainConfig, model_dir: Path) -> dict[str, object]:
    """Trains a model, or resumes a run, and evaluates the best model on the test split.

    Args:
        config: The settings; they must agree with those of a run that is in the folder.
        model_dir: The folder of the run; it is made when there is something to write.

    Returns:
        The content of results.json; nothing in a process that is not the chief.

    Raises:
        UserError: The settings cannot be used here, or another process trains in the folder.
        RunError: Data or files are damaged, memory or disk do not suffice, or the loss is not
            finite any more.
        Interrupted: A signal arrived; the state is saved, and calling this again resumes the run.
    """
    _check_folder(model_dir)
    record = RunRecord.read(model_dir)
    devices.set_threads(config.batch_size, record and record.branches)
    replicas = open_replicas(config.distribute)
    reinstall_handlers()  # with several processes, TensorFlow has installed its own
    with replicas.translate_lost_worker():
        compare_settings(replicas, config)
        if replicas.is_chief:
            with contextlib.ExitStack() as stack:
                with replicas.fail_together():
                    stack.enter_context(run_lock(model_dir))
                return _train(config, model_dir, replicas)
        # Only the chief writes to model_dir; the others write to a temporary folder.
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with replicas.fail_together():
                if model_dir.is_dir():
                    shutil.copytree(model_dir, folder, dirs_exist_ok=True, ignore=_NOT_NEEDED)
            _train(config, folder, replicas)
        return {}


def _train(config: TrainConfig, model_dir: Path, replicas: Replicas) -> dict[str, object]:
    """Trains as one of the processes of a run, or as the only one."""
    check_links(model_dir)
    with replicas.fail_together():
        record = RunRecord.read(model_dir)
        _check_record(record, config, model_dir)
        if record is not None:
            remove_unfinished(model_dir, older_than=_ABANDONED_SECONDS)
        corpus = open_corpus(config, label_names=record.label_names if record else None)
    loop = prepare_run(config, corpus, model_dir, record=record, replicas=replicas)
    compare_start(replicas, loop.state)
    # Up to here each process reads for itself; from here on all do the same.
    with replicas.synchronized_stop():
        results = _fit(loop, corpus, model_dir)
    replicas.wait()  # a process that ends would end the others
    return results


def _fit(loop: TrainingLoop, corpus: Corpus, model_dir: Path) -> dict[str, object]:
    path = model_dir / "results.json"
    if not loop.is_finished():
        path.unlink(missing_ok=True)  # these results are of fewer epochs
        loop.fit(model_dir)
    elif path.is_file():
        _log.info(
            "%s is trained already; larger --epochs or --early_stopping_patience resume it",
            model_dir,
        )
        return read_json(path)
    else:  # it was stopped after its last checkpoint; this adds the last row if it is missing
        History(model_dir, epochs=int(loop.state.epoch))
    state = loop.state
    results = load(model_dir).evaluate(corpus, "test") | {
        "best_epoch": int(state.best_epoch),
        "validation_loss": float(state.best_loss),
        "epochs": int(state.epoch),
        "steps": int(state.step),
        "train_seconds": round(float(state.seconds), 1),
        "params": state.model.count_params(),
    }
    write_json(results, path)
    return results


def _check_folder(model_dir: Path) -> None:
    if set(str(model_dir)) & set("*?[]"):
        raise UserError(f"--model_dir={model_dir} has one of *?[] in it, a pattern to TensorFlow")
    if model_dir.exists() and not model_dir.is_dir():
        raise UserError(f"--model_dir={model_dir} is a file; name a folder")


def _check_record(record: RunRecord | None, config: TrainConfig, model_dir: Path) -> None:
    """Checks that the folder's run has these settings, or that there is none."""
    if record is None:
        check_holds_no_run(model_dir)
        return
    differences = record.config.differences(config)
    if differences:
        raise UserError(
            f"{model_dir} holds a run with other settings: {', '.join(differences)}; train with "
            f"those, or name another --model_dir (only {', '.join(changeable())} may change)"
        )
