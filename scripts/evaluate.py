"""Evaluates a trained model: python -m scripts.evaluate --model_dir=runs/a [--split=test].

Prints one line per metric. For the test split, the values are those in results.json. Writes the
most confident errors (errors.csv) and the curves (curves.png) to MODEL_DIR/evaluation/SPLIT.

--dataset and the other flags of the data evaluate on other data, whose labels are matched by name.
Files without a test split are then evaluated as a whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from pipeline.errors import UserError
from pipeline.files.paths import names_files
from scripts.cli import commands, streams
from scripts.cli.flags import (
    FLAGS,
    define_model_dir_flag,
    define_setting_flags,
    get_local_path,
    get_model_dir,
)
from scripts.cli.output import define_format_flag, print_results
from trainer.config import TrainConfig

if TYPE_CHECKING:
    from pipeline.corpus import Corpus
    from trainer.artifacts.trained_run import TrainedRun

_log = logging.getLogger("scripts.evaluate")  # __name__ is __main__ if this is the command

# The flags that name other data than that of the run.
_DATA_SETTINGS = (
    *("dataset", "text_column", "label_column", "split_column", "splits_from_names", "label_map"),
    *("train_split", "validation_split", "test_split", "skip_bad_rows"),
    *("encoding", "delimiter", "quoting"),
)


def define_flags() -> None:
    """Defines the flags of this command."""
    define_model_dir_flag()
    flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "the split to evaluate on")
    flags.DEFINE_string("data_dir", "", "folder of TensorFlow Datasets; empty: the run's folder")
    define_format_flag()
    flags.DEFINE_string(
        "report_dir",
        "",
        "folder for errors and curves; empty: MODEL_DIR/evaluation/SPLIT, or DATA-SPLIT for other "
        "data",
    )
    define_setting_flags(*_DATA_SETTINGS, "cache_dir", "cache_gb")


def main() -> None:
    """Evaluates, and prints the metrics: names and values with a tab between them, or JSON."""
    model_dir = get_model_dir()
    with streams.quiet_stderr():
        from trainer.artifacts.trained_run import load
    if FLAGS.report_dir:
        _make_folder(get_local_path("report_dir"))  # before the work, to find errors
    run = load(model_dir)
    with _hide_flags_of_train():
        corpus, is_other_data = _open_data(run)
    name = FLAGS.split
    if is_other_data:
        name = re.sub(r"[^\w.-]+", "_", f"{Path(corpus.dataset.name).name}-{name}")
    report_dir = (
        get_local_path("report_dir") if FLAGS.report_dir else model_dir / "evaluation" / name
    )
    print_results(
        run.evaluate_split(corpus, FLAGS.split, report_dir=report_dir, is_other_data=is_other_data)
    )


def _make_folder(report_dir: Path) -> None:
    try:
        report_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = "is a file" if report_dir.is_file() else f"cannot be made ({error.strerror})"
        raise UserError(f"--report_dir={FLAGS.report_dir} {reason}; name a folder") from error


def _open_data(run: TrainedRun) -> tuple[Corpus, bool]:
    """Opens the data of the run, or that of the flags; returns whether it is other data."""
    from trainer.data import open_corpus

    config = _data_settings(run.config)
    open_like_run = functools.partial(
        open_corpus,
        config,
        label_names=run.label_names,
        standardization=run.tokenizer.standardization,
    )
    if config.dataset == run.config.dataset and "arrays" in run.data:
        raise UserError("the run was trained on data in memory; name other data: --dataset=FILE")
    if all(getattr(config, name) == getattr(run.config, name) for name in _DATA_SETTINGS):
        return open_like_run(), False
    corpus = open_like_run(is_test_data=True)
    name, has_files = corpus.dataset.name, names_files(config.dataset)
    if has_files and corpus.fingerprints(()).items() <= run.data.items():  # files were moved
        _log.info("%s: the data of the run; evaluating its %s split", name, FLAGS.split)
        return open_like_run(), False
    if has_files and not corpus.dataset.size(FLAGS.split):
        raise UserError(f"{name} has no {FLAGS.split} split; use --split=test")
    size = corpus.dataset.size(FLAGS.split)
    _log.info("%s: other data than that of the run; evaluating %d texts", name, size)
    return corpus, True


def _data_settings(config: TrainConfig) -> TrainConfig:
    """Returns the run's settings with those of the flags, and the folders of this command."""
    given = {name: getattr(FLAGS, name) for name in _DATA_SETTINGS if FLAGS[name].present}
    if "dataset" in given:
        if names_files(given["dataset"]):
            given["dataset"] = str(get_local_path("dataset").absolute())
        # The slices of the run's data set mean nothing in another one.
        given = dict.fromkeys(("train_split", "validation_split", "test_split"), "") | given
    get_local_path("cache_dir")  # raises an error for a URL
    # A run from another machine may name a folder of that machine. This command may read such a
    # folder, but downloads only to a folder that its user chose.
    is_from_run = bool(config.data_dir) and not FLAGS.data_dir
    return dataclasses.replace(
        config,
        **given,
        data_dir=FLAGS.data_dir or config.data_dir,
        download=config.download and not is_from_run,
        cache_dir=FLAGS.cache_dir,
        cache_gb=FLAGS.cache_gb,
    )


@contextlib.contextmanager
def _hide_flags_of_train() -> Iterator[None]:
    """Rewrites errors that suggest flags of scripts.train which this command does not have."""
    try:
        yield
    except UserError as error:
        message = error.message
        if all(name in FLAGS for name in re.findall(r"--([a-z]\w*)", message)):
            raise
        reason = message.partition("; ")[0].removeprefix("--dataset=")
        raise UserError(
            f"{reason}; evaluate uses the settings of the run, so restore the data as it was in "
            "training, or train a new run on it"
        ) from error


if __name__ == "__main__":
    commands.run(main, define_flags)
