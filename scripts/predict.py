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
from typing import TYPE_CHECKING, BinaryIO

from absl import flags
from tqdm import tqdm

from pipeline.errors import Mistake
from scripts import command_line
from scripts.command_line import FLAGS

if TYPE_CHECKING:
    from trainer.trained import Explanation

_GREENS, _REDS = (0, 194, 157, 120), (0, 224, 217, 210)  # of terminals of 256 colours, 0: none
_CHUNK = 1024  # reviews that are read, scored and answered together


def define_flags() -> None:
    """Defines the flags of this command."""
    command_line.define_model_dir_flag()
    flags.DEFINE_enum("format", "tsv", ("tsv", "jsonl"), "what a row looks like")
    flags.DEFINE_string(
        "input", "", "file of reviews: .csv, .tsv or .jsonl, or a review a line; gzipped or not"
    )
    flags.DEFINE_boolean(
        "explain",
        False,
        "tell what each word added to the log-odds of the second label: in colours on a terminal, "
        "where NO_COLOR is not set, and in a further column elsewhere",
    )
    flags.DEFINE_string("output", "", "file for the answers, whole or not at all; empty for stdout")
    command_line.define_setting_flags("text_column")


def main(arguments: list[str]) -> None:
    """Writes a row for each review."""
    model_dir = command_line.model_dir()
    if arguments and FLAGS.input:
        raise Mistake(f"give texts, or --input={FLAGS.input}, not both")
    with command_line.quiet_stderr():
        from trainer.trained import load
    run = load(model_dir)
    row = _jsonl if FLAGS.format == "jsonl" else _tsv
    is_typed = not arguments and not FLAGS.input and sys.stdin.isatty()
    with _output() as output, tqdm(unit=" reviews", leave=False, disable=not _has_bar()) as bar:
        for part in _chunks(_texts(arguments), 1 if is_typed or FLAGS.explain else _CHUNK):
            for text, probability in zip(part, run.predict(part), strict=True):
                label = run.label_names[int(probability > 0.5)]
                explanation = run.explain(text) if FLAGS.explain else None
                output.write(row(label, float(probability), text, explanation) + b"\n")
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

    with replacing(command_line.local_path("output")) as path, path.open("wb") as file:
        yield file


def _texts(arguments: list[str]) -> Iterable[bytes]:
    if arguments:
        return [os.fsencode(text) for text in arguments]
    if FLAGS.input:
        from pipeline.files import read_texts

        return read_texts(command_line.local_path("input"), FLAGS.text_column)
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


def _tsv(label: str, probability: float, text: bytes, explanation: Explanation | None) -> bytes:
    """Makes a row of it; a tab, line break or backslash in the text is written as in C."""
    for character, escape in ((b"\\", rb"\\"), (b"\t", rb"\t"), (b"\n", rb"\n"), (b"\r", rb"\r")):
        text = text.replace(character, escape)
    start = f"{label}\t{probability:.6f}\t".encode()
    if not explanation:
        return start + text
    if sys.stdout.isatty() and not FLAGS.output and not os.environ.get("NO_COLOR"):
        return start + _coloured(explanation).encode()
    pairs = zip(explanation.words, explanation.weights, strict=True)
    return start + text + b"\t" + " ".join(f"{w}={x:+.3f}" for w, x in pairs).encode()


def _jsonl(label: str, probability: float, text: bytes, explanation: Explanation | None) -> bytes:
    content = {"label": label, "probability": probability, "text": text.decode(errors="replace")}
    if explanation:
        content["baseline"] = explanation.baseline
        pairs = zip(explanation.words, explanation.weights.tolist(), strict=True)
        content["words"] = [list(pair) for pair in pairs]
    return json.dumps(content, ensure_ascii=False).encode()


def _coloured(explanation: Explanation) -> str:
    """Marks words that speak for the second label in green, for the first in red."""
    most = max(abs(explanation.weights).max(), 1e-9)
    words = []
    for word, weight in zip(explanation.words, explanation.weights, strict=True):
        shade = int(abs(weight) / most * len(_GREENS) - 1e-6)
        color = (_GREENS if weight > 0 else _REDS)[shade]
        words.append(f"\x1b[30;48;5;{color}m{word}\x1b[0m" if color else word)
    return " ".join(words)


if __name__ == "__main__":
    command_line.run(main, define_flags)
