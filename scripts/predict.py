r"""Predicts the labels of texts: python -m scripts.predict --model_dir=runs/a ["a text" ...].

Without a text on the command line, it reads --input, or stdin with one text per line. It writes
one row per text, in the order of the input: label, probability (of the second of two labels, or of
the predicted one of more), text, and the columns of --keep_columns. A backslash, tab, line feed or
carriage return in them is written as \\, \t, \n or \r.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from absl import flags
from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.files.file_format import AUTO, FileFormat
from scripts.cli import commands, predictions, streams
from scripts.cli.flags import (
    FLAGS,
    define_model_dir_flag,
    define_setting_flags,
    get_local_path,
    get_model_dir,
)
from scripts.cli.output import Output
from trainer.config import TrainConfig

if TYPE_CHECKING:
    from pipeline.files.texts import Text
    from trainer.artifacts.trained_run import TrainedRun

TAKES_TEXTS = True  # the arguments are texts, which may begin with a dash
_CHUNK = 1024  # texts that are read, scored and written together
_FORMAT_SETTINGS = ("encoding", "delimiter", "quoting")

_log = logging.getLogger("scripts.predict")  # __name__ is __main__ if this is the command


def define_flags() -> None:
    """Defines the flags of this command."""
    define_model_dir_flag()
    flags.DEFINE_enum("format", "tsv", ("tsv", "jsonl"), "the output format")
    flags.DEFINE_string(
        "input",
        "",
        ".csv, .tsv, .jsonl or .parquet file, or a .txt file with one text per line, compressed or "
        "not; -: stdin",
    )
    flags.DEFINE_list(
        "keep_columns", [], "columns of --input, separated by commas, to copy to the output"
    )
    flags.DEFINE_boolean("header", False, "write the names of the TSV columns first")
    flags.DEFINE_float(
        "threshold",
        None,
        "predict the second of two labels if its probability is at least this; empty: above 0.5",
    )
    flags.DEFINE_boolean(
        "explain",
        False,
        "show how much each word added to the log-odds of the second or predicted label: as "
        "colours on a terminal if NO_COLOR is not set, else as numbers in an additional column",
    )
    flags.DEFINE_string("explain_class", "", "explain this label instead")
    flags.DEFINE_string("output", "", "file to write, complete or not at all; empty or -: stdout")
    define_setting_flags("text_column", "skip_bad_rows", *_FORMAT_SETTINGS)


def main(*texts: str) -> None:
    """Writes one row per text."""
    model_dir = get_model_dir()
    if texts and FLAGS.input:
        raise UserError(f"give texts or --input={FLAGS.input}, not both")
    is_stdin = not texts and FLAGS.input in ("", "-")
    if is_stdin and 0 in streams.closed:
        raise UserError('stdin is closed; type a text, such as "A quiet film.", or --input=FILE')
    if FLAGS.keep_columns and (texts or is_stdin):
        raise UserError("--keep_columns needs a file with columns: add --input=FILE.csv")
    if FLAGS.explain_class:
        FLAGS["explain"].value = True
    if FLAGS.header and FLAGS.format != "tsv":
        raise UserError(f"--header is for --format=tsv; omit it, or --format={FLAGS.format}")
    output = Output(FLAGS.output)
    with streams.quiet_stderr():
        from pipeline.files.texts import Text
        from trainer.artifacts.trained_run import load
        from trainer.data import format_labels
    if texts:
        inputs: Iterator[Text] = (Text(os.fsencode(text)) for text in texts)
    else:
        inputs = _read_stdin() if is_stdin else _read_input_file(model_dir, output)
    # One text cannot be split into branches, and one branch takes half the time to trace.
    run = load(model_dir, branches=1 if len(texts) == 1 else None)
    _check_threshold(run.label_names)
    _log.info("labels: %s", format_labels(run.label_names))
    is_typed = is_stdin and sys.stdin.isatty()
    chunk_size = 1 if is_typed or FLAGS.explain else _CHUNK
    shows_rows = output.is_stdout and sys.stdout.isatty()
    shows_bar = sys.stderr.isatty() and FLAGS.input not in ("", "-") and not shows_rows
    use_colors = shows_rows and not os.environ.get("NO_COLOR")
    format_row = _row_format(use_colors=use_colors)
    with output.open() as file, tqdm(unit=" texts", leave=False, disable=not shows_bar) as bar:
        if FLAGS.header:
            has_words = FLAGS.explain and not use_colors
            file.write(predictions.format_header(FLAGS.keep_columns, has_words=has_words) + b"\n")
        while chunk := list(itertools.islice(inputs, chunk_size)):
            _write_rows(file, run, chunk, format_row)
            bar.update(len(chunk))


def _read_stdin() -> Iterator[Text]:
    from pipeline.files.texts import read_lines

    if sys.stdin.isatty():
        print("type one text per line, and Ctrl-D at the end", file=sys.stderr)
    # The run's settings describe its files, not typed or piped text.
    return read_lines(sys.stdin.buffer, FileFormat(encoding=FLAGS.encoding), "stdin")


def _read_input_file(model_dir: Path, output: Output) -> Iterator[Text]:
    """Checks --input, and reads its texts with the run's settings, which flags override."""
    from pipeline.files.texts import read_texts
    from trainer.artifacts.trained_run import read_record

    config = read_record(model_dir).config
    path = get_local_path("input")
    if FLAGS["text_column"].present:
        config = dataclasses.replace(config, text_column=FLAGS.text_column)
    predictions.check_keep_columns(FLAGS.keep_columns, config.text_columns)
    if output.is_same_file(path):
        raise UserError(f"--output={output.name} is the --input; name another file")
    return read_texts(
        path,
        config.text_columns,
        FLAGS.keep_columns,
        _input_format(config, path),
        skip_bad_rows=FLAGS.skip_bad_rows,
    )


def _input_format(config: TrainConfig, path: Path) -> FileFormat:
    """Returns the format of --input from the flags or the run; logs the settings of the run."""
    values: dict[str, str] = {}
    from_run = []
    for name in _FORMAT_SETTINGS:
        is_given = FLAGS[name].present
        values[name] = getattr(FLAGS if is_given else config, name)
        if not is_given and values[name] != getattr(AUTO, name):
            from_run.append(f"--{name}={values[name]}")
    if from_run:
        _log.info("reading %s with the settings of the run: %s", path, " ".join(from_run))
    return FileFormat(**values)


def _check_threshold(label_names: Sequence[str]) -> None:
    start = f"--threshold={FLAGS.threshold}"
    if FLAGS.threshold is not None and len(label_names) > 2:
        raise UserError(f"{start} is for two labels, and the run has {len(label_names)}; omit it")
    if FLAGS.threshold is not None and not 0 <= FLAGS.threshold <= 1:  # also refuses NaN
        raise UserError(f"{start} is out of range; it must be from 0 to 1")


def _row_format(*, use_colors: bool) -> Callable[..., bytes]:
    if FLAGS.format == "jsonl":
        return functools.partial(predictions.format_json, threshold=FLAGS.threshold)
    options = {"threshold": FLAGS.threshold, "use_colors": use_colors}
    return functools.partial(predictions.format_tsv, **options)


def _write_rows(
    file: BinaryIO, run: TrainedRun, texts: list[Text], format_row: Callable[..., bytes]
) -> None:
    for text, probabilities in zip(texts, run.predict([t.text for t in texts]), strict=True):
        by_label = dict(zip(run.label_names, probabilities.tolist(), strict=True))
        explanation = run.explain(text.text, FLAGS.explain_class or None) if FLAGS.explain else None
        file.write(format_row(by_label, text, explanation) + b"\n")
    file.flush()


if __name__ == "__main__":
    commands.run(main, define_flags)
