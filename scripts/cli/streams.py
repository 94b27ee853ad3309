"""Standard streams: closed ones, broken pipes, one-line messages, and TensorFlow's own output."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from pipeline.errors import escape

closed: set[int] = set()  # of stdin (0), stdout (1) and stderr (2), when the command started


def replace_closed_streams() -> None:
    """Opens /dev/null for each closed stream.

    Otherwise libraries would print into the next file that is opened.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            closed.add(descriptor)
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            stream = os.fdopen(descriptor, "r" if name == "stdin" else "w", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


@contextlib.contextmanager
def ignore_broken_pipe() -> Iterator[None]:
    """Suppresses the error if the reader of stdout has exited, as in `| head`."""
    try:
        yield
    except BrokenPipeError:
        # Python flushes stdout again when it exits, and would report the error then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_message(message: object) -> None:
    """Prints a message as one line on stderr, with control characters escaped."""
    with contextlib.suppress(BrokenPipeError):
        print(escape(" ".join(str(message).split())), file=sys.stderr, flush=True)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hides stderr while TensorFlow is imported, and shows it if the import fails.

    TensorFlow 2.21 logs messages about CUDA and CPU features before TF_CPP_MIN_LOG_LEVEL takes
    effect. Set TF_CPP_MIN_LOG_LEVEL=0 to see all of its messages.
    """
    level = os.environ["TF_CPP_MIN_LOG_LEVEL"] = os.environ.get("TF_CPP_MIN_LOG_LEVEL") or "3"
    if level == "0":
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except Exception:  # not of a signal
            hidden.seek(0)
            os.write(stderr, hidden.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
