"""Scores reviews: python -m scripts.predict --model_dir=runs/a ["a review" ...].

Without a text it reads --input, or stdin, one review a line. It answers in the order of its input,
a row a review: label, probability of the second label, text.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from absl import flags
from tqdm import tqdm

from pipeline.errors import Mistake
from scripts import command_line
from scripts.command_line import FLAGS

command_line.define_model_dir_flag()
flags.DEFINE_enum("format", "tsv", ("tsv", "jsonl"), "what a row looks like")
flags.DEFINE_string(
    "input", "", "file of reviews: .csv, .tsv or .jsonl, or a review a line; gzipped or not"
)
flags.DEFINE_string("output", "", "file for the answers, whole or not at all; empty for stdout")
command_line.define_setting_flags("text_column")

_CHUNK = 1024  # reviews that are read, scored and answered together


def main(arguments: list[str]) -> None:
    """Writes a row for each review."""
    model_dir = command_line.model_dir()
    if arguments and FLAGS.input:
        raise Mistake(f"give texts, or --input={FLAGS.input}, not both")
    with command_line.quiet_stderr():
        from trainer.run import load
    run = load(model_dir)
    row = _jsonl if FLAGS.format == "jsonl" else _tsv
    is_typed = not arguments and not FLAGS.input and sys.stdin.isatty()
    with _output() as output, tqdm(unit=" reviews", leave=False, disable=not _has_bar()) as bar:
        for part in _chunks(_texts(arguments), 1 if is_typed else _CHUNK):
            for text, probability in zip(part, run.predict(part), strict=True):
                label = run.label_names[int(probability > 0.5)]
                output.write(row(label, float(probability), text) + b"\n")
            output.flush()
            bar.update(len(part))


def _has_bar() -> bool:
    """Says whether someone waits who sees nothing else."""
    return (
        sys.stderr.isatty() and bool(FLAGS.input) and not (sys.stdout.isatty() and not FLAGS.output)
    )


@contextlib.contextmanager
def _output() -> Iterator[BinaryIO]:
    if not FLAGS.output:
        yield sys.stdout.buffer
        return
    from trainer.files import replacing

    with replacing(Path(FLAGS.output).expanduser()) as path, path.open("wb") as file:
        yield file


def _texts(arguments: list[str]) -> Iterable[bytes]:
    if arguments:
        return [os.fsencode(text) for text in arguments]
    if FLAGS.input:
        from pipeline.review_files import read_texts

        return read_texts(Path(FLAGS.input).expanduser(), FLAGS.text_column)
    return _lines()


def _lines() -> Iterator[bytes]:
    if sys.stdin.isatty():
        print("type a review a line, and Ctrl-D at the end", file=sys.stderr)
    for line in sys.stdin.buffer:
        yield line.removesuffix(b"\n").removesuffix(b"\r")


def _chunks(texts: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    texts = iter(texts)
    while part := list(itertools.islice(texts, size)):
        yield part


def _tsv(label: str, probability: float, text: bytes) -> bytes:
    """Makes a row of it; a tab, line break or backslash in the text is written as in C."""
    for character, escape in ((b"\\", rb"\\"), (b"\t", rb"\t"), (b"\n", rb"\n"), (b"\r", rb"\r")):
        text = text.replace(character, escape)
    return f"{label}\t{probability:.6f}\t".encode() + text


def _jsonl(label: str, probability: float, text: bytes) -> bytes:
    content = {"label": label, "probability": probability, "text": text.decode(errors="replace")}
    return json.dumps(content, ensure_ascii=False).encode()


if __name__ == "__main__":
    command_line.run(main)
