"""Measures a trained model: python -m scripts.evaluate --model_dir=runs/a [--split=test].

Prints a line for each figure; they are those of results.json when the split is test. The surest
mistakes (errors.csv) and the curves (curves.png) go to MODEL_DIR/evaluation/SPLIT.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator

from absl import flags

from pipeline.errors import UserError
from scripts.cli import commands
from scripts.cli.commands import FLAGS


def define_flags() -> None:
    """Defines the flags of this command."""
    commands.define_model_dir_flag()
    flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "the reviews to measure on")
    flags.DEFINE_string("data_dir", "", "folder of tensorflow-datasets; empty for the run's own")
    flags.DEFINE_enum("format", "tsv", ("tsv", "json"), "what is printed")
    flags.DEFINE_string(
        "report_dir", "", "where mistakes and curves go; empty for MODEL_DIR/evaluation/SPLIT"
    )
    commands.define_setting_flags("cache_dir", "cache_gb")


def main(arguments: list[str]) -> None:
    """Evaluates, and prints names and values, divided by a tab, or as JSON."""
    commands.refuse(arguments)
    model_dir = commands.model_dir()
    with commands.quiet_stderr():
        from trainer.artifacts.trained_run import load
        from trainer.data import open_corpus
    run = load(model_dir)
    # A run that was copied from elsewhere names folders of that machine: what is read of them is
    # welcome, but nothing is written where its config.json says.
    elsewhere = bool(run.config.data_dir) and not FLAGS.data_dir
    places = {
        "data_dir": FLAGS.data_dir or run.config.data_dir,
        "download": run.config.download and not elsewhere,
        "cache_dir": FLAGS.cache_dir,
        "cache_gb": FLAGS.cache_gb,
    }
    commands.local_path("cache_dir")
    report_dir = model_dir / "evaluation" / FLAGS.split
    if FLAGS.report_dir:
        report_dir = commands.local_path("report_dir")
        report_dir.mkdir(parents=True, exist_ok=True)  # fails before the work
    with _own_flags_alone():
        data = open_corpus(dataclasses.replace(run.config, **places), label_names=run.label_names)
    figures = run.evaluate(data, FLAGS.split, report_dir=report_dir)
    if FLAGS.format == "json":
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        is_plain = isinstance(value, (str, int, float))
        print(name, value if is_plain else json.dumps(value), sep="\t")


@contextlib.contextmanager
def _own_flags_alone() -> Iterator[None]:
    """Rewords what names flags of train: evaluate reads the data by the run's settings."""
    try:
        yield
    except UserError as mistake:
        what = str(mistake)
        if all(name in FLAGS for name in re.findall(r"--([a-z]\w*)", what)):
            raise
        raise UserError(
            f"{what.partition('; ')[0].removeprefix('--dataset=')}; the run's settings are used, "
            "so put the data back as they were in training, or train another run on them"
        ) from mistake


if __name__ == "__main__":
    commands.run(main, define_flags)
