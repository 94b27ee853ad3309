r"""Scores reviews: python -m scripts.predict --model_dir=runs/a ["a review" ...].

Without a text it reads --input, or stdin, one text per line. It answers in the order of its input,
one row per text: label, probability of the second label, text, and the columns of --keep_columns. A
backslash, tab, line feed or carriage return in them is written as \\, \t, \n or \r.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from absl import flags
from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.files.file_format import AUTO, FileFormat
from scripts.cli import answers, commands, streams
from scripts.cli.commands import FLAGS
from scripts.cli.output import Output

if TYPE_CHECKING:
    from pipeline.files.texts import Text, TextFile
    from trainer.config import TrainConfig

TAKES_TEXTS = True  # arguments may begin with a dash
_CHUNK = 1024  # reviews that are read, scored and answered together

_log = logging.getLogger("scripts.predict")  # its __name__ is __main__ where it is the command


def define_flags() -> None:
    """Defines the flags of this command."""
    commands.define_model_dir_flag()
    flags.DEFINE_enum("format", "tsv", ("tsv", "jsonl"), "what a row looks like")
    flags.DEFINE_string(
        "input",
        "",
        ".csv, .tsv, .jsonl or a .txt file with one text per line, compressed or not; - for stdin",
    )
    flags.DEFINE_list(
        "keep_columns", [], "columns of --input, with commas between them, that go into the answers"
    )
    flags.DEFINE_boolean(
        "explain",
        False,
        "tell what each word added to the log-odds of the second label: in colours on a terminal, "
        "where NO_COLOR is not set, and in a further column elsewhere",
    )
    flags.DEFINE_string(
        "output", "", "file for the answers, whole or not at all; empty or -: stdout"
    )
    commands.define_setting_flags(
        "text_column", "skip_bad_rows", "encoding", "delimiter", "quoting"
    )


def main(arguments: list[str]) -> None:
    """Writes a row for each review."""
    model_dir = commands.model_dir()
    if arguments and FLAGS.input:
        raise UserError(f"give texts, or --input={FLAGS.input}, not both")
    is_stdin = not arguments and FLAGS.input in ("", "-")
    _check_streams(is_stdin=is_stdin, has_file=not arguments and not is_stdin)
    output = Output(FLAGS.output)
    with commands.quiet_stderr():
        from trainer.artifacts.trained_run import load, read_record
    if arguments:
        texts = _typed(arguments)
    elif is_stdin:
        texts = _piped()
    else:
        file = _text_file(read_record(model_dir).config, output)
        file.check()
        texts = file.read()
    run = load(model_dir)
    row = _row(output)
    is_typed = is_stdin and sys.stdin.isatty()
    with output.open() as file, tqdm(unit=" reviews", leave=False, disable=not _has_bar()) as bar:
        for part in _chunks(texts, 1 if is_typed or FLAGS.explain else _CHUNK):
            probabilities = run.predict([text.text for text in part])
            for text, probability in zip(part, probabilities, strict=True):
                label = run.label_names[int(probability > 0.5)]
                explanation = run.explain(text.text) if FLAGS.explain else None
                file.write(row(label, float(probability), text, explanation) + b"\n")
            file.flush()
            bar.update(len(part))


def _check_streams(*, is_stdin: bool, has_file: bool) -> None:
    if is_stdin and streams.is_closed(0):
        raise UserError('stdin is closed; type a text, such as "A quiet film.", or --input=FILE')
    if FLAGS.keep_columns and not has_file:
        raise UserError("--keep_columns is for the columns of a file; name it: --input=FILE.csv")


def _row(output: Output) -> Callable[..., bytes]:
    if FLAGS.format == "jsonl":
        return answers.jsonl
    is_coloured = answers.has_colours(is_stdout=output.is_stdout)
    return functools.partial(answers.tsv, is_coloured=is_coloured)


def _has_bar() -> bool:
    """Says whether someone waits who sees nothing else."""
    is_seen = sys.stdout.isatty() and FLAGS.output in ("", "-")
    return sys.stderr.isatty() and FLAGS.input not in ("", "-") and not is_seen


def _text_file(config: TrainConfig, output: Output) -> TextFile:
    """Opens --input; settings that no flag gives are the run's."""
    from pipeline.files.texts import TextFile

    names = ("text_column", "encoding", "delimiter", "quoting")
    given = {name: FLAGS[name].value for name in names if FLAGS[name].present}
    column, *of_format = (given.get(name, getattr(config, name)) for name in names)
    of_run = [
        f"--{name}={getattr(config, name)}"
        for name in names[1:]
        if name not in given and getattr(config, name) != getattr(AUTO, name)
    ]
    path = commands.local_path("input")
    if of_run:
        _log.info("%s is read with the run's settings: %s", path, " ".join(of_run))
    answers.check_kept(FLAGS.keep_columns, column)
    if output.is_file(path):
        raise UserError(f"--output={output.name} is the --input; name another file")
    keep = tuple(FLAGS.keep_columns)
    return TextFile(path, column, keep, FileFormat(*of_format), FLAGS.skip_bad_rows)


def _typed(arguments: list[str]) -> Iterator[Text]:
    from pipeline.files.texts import Text

    return (Text(os.fsencode(text)) for text in arguments)


def _piped() -> Iterator[Text]:
    from pipeline.files.texts import read_lines

    if sys.stdin.isatty():
        print("type a review a line, and Ctrl-D at the end", file=sys.stderr)
    # The run's settings are about its files, not about what is typed or piped.
    return read_lines(sys.stdin.buffer, FileFormat(encoding=FLAGS.encoding), "stdin")


def _chunks(texts: Iterable[Text], size: int) -> Iterator[list[Text]]:
    texts = iter(texts)
    while part := list(itertools.islice(texts, size)):
        yield part


if __name__ == "__main__":
    commands.run(main, define_flags)
