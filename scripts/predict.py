"""Scores reviews: python -m scripts.predict --model_dir=runs/a ["a review" ...].

Without a text it reads stdin, one review a line. It answers in the order of its input, a row a
review: label, probability of the second label, text.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator

from absl import flags

from scripts import command_line
from scripts.command_line import FLAGS

command_line.define_model_dir_flag()
flags.DEFINE_enum("format", "tsv", ("tsv", "jsonl"), "what a row looks like")

_CHUNK = 1024  # reviews that are read, scored and answered together


def main(arguments: list[str]) -> None:
    """Prints a row for each review."""
    model_dir = command_line.model_dir()
    with command_line.quiet_stderr():
        from trainer.run import load
    run = load(model_dir)
    texts = [os.fsencode(text) for text in arguments] if arguments else _lines()
    chunk = 1 if not arguments and sys.stdin.isatty() else _CHUNK
    row = _jsonl if FLAGS.format == "jsonl" else _tsv
    for part in _chunks(texts, chunk):
        for text, probability in zip(part, run.predict(part), strict=True):
            label = run.label_names[int(probability > 0.5)]
            sys.stdout.buffer.write(row(label, float(probability), text) + b"\n")
        sys.stdout.flush()


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
