"""Trains a run, from its settings to its results."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import tempfile
from pathlib import Path

from pipeline.corpus import Corpus
from pipeline.errors import UserError
from pipeline.file_dataset.sources import ArrayData
from trainer.agreement import check_same_settings, check_same_state
from trainer.artifacts.pretrained import PRETRAINED, PretrainedEncoder, read_encoder_folder
from trainer.artifacts.run_record import RunRecord
from trainer.artifacts.trained_run import load
from trainer.config import TrainConfig, changeable
from trainer.data import open_corpus
from trainer.loop import TrainingLoop
from trainer.monitoring.history import History
from trainer.monitoring.summaries import write_results
from trainer.preparation import prepare_run
from trainer.runtime import devices
from trainer.runtime.files import read_json, remove_unfinished, write_json
from trainer.runtime.lock import run_lock
from trainer.runtime.replicas import Replicas, open_replicas
from trainer.runtime.signals import reinstall_handlers

_log = logging.getLogger(__name__)

# The files that a run replaces in its folder, except vocabulary.txt and taught_labels.npy, which it
# may write before config.json.
_RUN_FILES = (
    *(
        "checkpoints",
        "best",
        "offsets.npy",
        PRETRAINED,
        "history.csv",
        "curves.png",
        "results.json",
        "settings.flags",
    ),
    *("train/*tfevents*", "validation/*tfevents*", "validation/*.bin", "validation/words.tsv"),
    "validation/projector_config.pbtxt",
)
_NOT_COPIED = shutil.ignore_patterns("lock", "export", "evaluation", "*tfevents*")
# Settings that data in memory does not need.
_FILE_SETTINGS = (
    *("dataset", "text_column", "label_column", "split_column"),
    *("encoding", "delimiter", "quoting"),
)
_MIN_UNFINISHED_AGE = 24 * 3600  # seconds; scripts.predict may be writing to the same folder


def train(
    config: TrainConfig, model_dir: Path, *, data: ArrayData | None = None
) -> dict[str, object]:
    """Trains a new run or resumes a run, and evaluates the best model on the test split.

    The settings must agree with those of the run in the folder, if there is one. `data` is data in
    memory, from `pipeline.from_arrays`, in place of `config.dataset`.

    Returns:
        The content of results.json; empty in a worker that is not the chief.

    Raises:
        UserError: The settings cannot be used here, or another process trains in the folder.
        RunError: Data or files are damaged, memory or disk space is too small, or the loss is no
            longer finite.
        Interrupted: Only inside `with StopSignals()`, by a signal. The same call resumes the run.
    """
    _check_folder(model_dir)
    config = _name_data(config, data)
    record = RunRecord.read(model_dir)
    devices.set_threads(config.batch_size, record.branches if record else None)
    replicas = open_replicas(config.distribute)
    reinstall_handlers()  # TensorFlow replaces them if there are several workers
    with replicas.translate_lost_worker():
        check_same_settings(replicas, config)
        if replicas.is_chief:
            with contextlib.ExitStack() as stack:
                with replicas.fail_together():
                    stack.enter_context(run_lock(model_dir))
                return _train(config, model_dir, replicas, data)
        # Only the chief writes to model_dir. Other workers train in a temporary copy.
        with tempfile.TemporaryDirectory() as name:
            copy = Path(name)
            with replicas.fail_together():
                if model_dir.is_dir():
                    shutil.copytree(model_dir, copy, dirs_exist_ok=True, ignore=_NOT_COPIED)
            _train(config, copy, replicas, data)
        return {}


def _check_folder(model_dir: Path) -> None:
    if set(str(model_dir)) & set("*?[]"):
        raise UserError(
            f"--model_dir={model_dir} contains one of *?[], which TensorFlow reads as a pattern; "
            "name another folder"
        )
    if model_dir.exists() and not model_dir.is_dir():
        raise UserError(f"--model_dir={model_dir} is a file; name a folder")


def _train(
    config: TrainConfig, model_dir: Path, replicas: Replicas, data: ArrayData | None
) -> dict[str, object]:
    """Trains in this process, which may be one of several workers."""
    _check_links(model_dir)
    with replicas.fail_together():
        record = RunRecord.read(model_dir)
        _check_record(record, config, model_dir, is_in_memory=data is not None)
        if record is not None:
            remove_unfinished(model_dir, older_than=_MIN_UNFINISHED_AGE)
        names = record.label_names if record else None
        pretrained = _open_pretrained(config, model_dir, record)
        words = pretrained.tokenizer.standardization if pretrained else None
        corpus = open_corpus(config, data=data, label_names=names, standardization=words)
    if record is None:
        _log.info("%s: a new run on %s", model_dir, config.dataset)
    loop = prepare_run(
        config, corpus, model_dir, record=record, replicas=replicas, pretrained=pretrained
    )
    check_same_state(replicas, loop.state)
    # From here on, all workers check for signals at the same steps.
    with replicas.synchronized_stop():
        results = _fit_and_evaluate(loop, corpus, model_dir)
    replicas.barrier()  # a worker that exits earlier would end the others
    return results


def _open_pretrained(
    config: TrainConfig, model_dir: Path, record: RunRecord | None
) -> PretrainedEncoder | None:
    """Reads the pretrained encoder, if there is one, from its folder or that of the run."""
    if not config.pretrained:
        return None
    if record is not None:
        return PretrainedEncoder.read(model_dir)
    encoder = read_encoder_folder(config.pretrained)
    if config.train_layers > (layers := encoder.architecture.layer_count):
        raise UserError(
            f"--train_layers={config.train_layers} is more than the {layers} layers of the "
            f"encoder; use at most {layers}, or -1 for all and the embeddings"
        )
    return encoder


def _name_data(config: TrainConfig, data: ArrayData | None) -> TrainConfig:
    """Returns the settings with the name of the data in memory, if there is some."""
    if data is None:
        return config
    for name in _FILE_SETTINGS:
        value = getattr(config, name)
        if value != getattr(TrainConfig, name) and (name, value) != ("dataset", data.name):
            raise UserError(f"the data is in memory, so leave out {name}={value}")
    return dataclasses.replace(config, dataset=data.name)


def _check_record(
    record: RunRecord | None, config: TrainConfig, model_dir: Path, *, is_in_memory: bool
) -> None:
    """Checks that the folder contains a run with these settings, or no run."""
    if record is None:
        _check_contains_no_run(model_dir)
        return
    record.check_data_kind(is_in_memory, model_dir)
    differences = record.config.differences(config)
    if differences:
        found = {difference.partition(" ")[0] for difference in differences}
        may_change = ", ".join(name for name in changeable() if name not in found)
        raise UserError(
            f"{model_dir} contains a run with other settings: {', '.join(differences)}; use those "
            f"settings, or name another --model_dir (only {may_change} may change, and without "
            "--decay and --warmup, --max_steps may grow)"
        )


def _check_links(model_dir: Path) -> None:
    """Checks that no subfolder of a run is a link, which may lead to another run."""
    for name in ("checkpoints", "best", "train", "validation"):
        if (model_dir / name).is_symlink():
            raise UserError(
                f"{model_dir / name} is a link, and training would change its target; replace it "
                "with a folder, or make the whole --model_dir a link"
            )


def _check_contains_no_run(model_dir: Path) -> None:
    """Checks that a new run would not replace files in its folder."""
    found = sorted(path for pattern in _RUN_FILES for path in model_dir.glob(pattern))
    if found:
        raise UserError(
            f"{model_dir} contains no run (no config.json), but it contains "
            f"{found[0].relative_to(model_dir)}, which a new run would replace; name another "
            "--model_dir"
        )


def _fit_and_evaluate(loop: TrainingLoop, corpus: Corpus, model_dir: Path) -> dict[str, object]:
    path = model_dir / "results.json"
    if not loop.is_finished():
        path.unlink(missing_ok=True)  # results of fewer epochs
        loop.fit()
    elif path.is_file():
        _log.info("%s is already trained; %s", model_dir, loop.advise_longer())
        return read_json(path)
    else:
        History(model_dir, epochs=int(loop.state.epoch))  # adds a missing row
    state = loop.state
    results = load(model_dir).evaluate_split(corpus, "test") | {
        "best_epoch": int(state.best_epoch),
        f"validation_{loop.config.best_metric}": abs(float(state.best_loss)),
        "epochs": int(state.epoch),
        "steps": int(state.step),
        "train_seconds": round(float(state.seconds), 1),
        "params": state.model.count_params(),
    }
    write_json(results, path)
    write_results(model_dir, results)
    return results
