"""Evaluates a trained model: python -m scripts.evaluate --model_dir=runs/a [--split=test].

Prints one line per metric. For the test split, the values are those in results.json. Writes the
most confident errors (errors.csv) and the curves (curves.png) to MODEL_DIR/evaluation/SPLIT.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from pipeline.errors import UserError
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


def define_flags() -> None:
    """Defines the flags of this command."""
    define_model_dir_flag()
    flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "the split to evaluate on")
    flags.DEFINE_string("data_dir", "", "folder of TensorFlow Datasets; empty: the run's folder")
    define_format_flag()
    flags.DEFINE_string(
        "report_dir", "", "folder for errors and curves; empty: MODEL_DIR/evaluation/SPLIT"
    )
    define_setting_flags("cache_dir", "cache_gb")


def main() -> None:
    """Evaluates, and prints the metrics: names and values with a tab between them, or JSON."""
    model_dir = get_model_dir()
    with streams.quiet_stderr():
        from trainer.artifacts.trained_run import load
        from trainer.data import open_corpus
    run = load(model_dir)
    config = _data_settings(run.config)
    report_dir = model_dir / "evaluation" / FLAGS.split
    if FLAGS.report_dir:
        report_dir = get_local_path("report_dir")
        _make_folder(report_dir)  # before the work, to find errors
    with _hide_flags_of_train():
        corpus = open_corpus(config, label_names=run.label_names)
    print_results(run.evaluate(corpus, FLAGS.split, report_dir=report_dir))


def _make_folder(report_dir: Path) -> None:
    try:
        report_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = "is a file" if report_dir.is_file() else f"cannot be made ({error.strerror})"
        raise UserError(f"--report_dir={FLAGS.report_dir} {reason}; name a folder") from error


def _data_settings(config: TrainConfig) -> TrainConfig:
    """Returns the run's settings, with the folders that this command reads and writes."""
    get_local_path("cache_dir")  # raises an error for a URL
    # A run from another machine may name a folder of that machine. This command may read such a
    # folder, but downloads only to a folder that its user chose.
    is_from_run = bool(config.data_dir) and not FLAGS.data_dir
    return dataclasses.replace(
        config,
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
        message = str(error)
        if all(name in FLAGS for name in re.findall(r"--([a-z]\w*)", message)):
            raise
        reason = message.partition("; ")[0].removeprefix("--dataset=")
        raise UserError(
            f"{reason}; evaluate uses the settings of the run, so restore the data as it was in "
            "training, or train a new run on it"
        ) from error


if __name__ == "__main__":
    commands.run(main, define_flags)
