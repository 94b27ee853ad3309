"""Runs a command: parses its flags, and turns its errors into exit codes."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from types import ModuleType

from absl import app
from absl import logging as absl_logging
from absl.logging import converter

from pipeline.errors import RunError, UserError, escape, shorten
from scripts.cli import streams
from scripts.cli.flags import FLAGS
from scripts.cli.parsing import format_help, parse_flags
from trainer.monitoring.progress import ProgressHandler

Main = Callable[..., int | None]


def _raise_terminated(number: int, _: object) -> None:
    """Handles SIGTERM, so that `with` blocks delete temporary files; training replaces this."""
    raise KeyboardInterrupt(number)


def run(main: Main, define_flags: Callable[[], None]) -> None:
    """Runs a command, and exits.

    Exit codes: 0 success, 1 user error, 2 run error (data, disk or numbers), 128 + n interrupted by
    signal n. An error is one line on stderr.

    Args:
        main: Takes texts if its module sets TAKES_TEXTS, else nothing; may return an exit code.
        define_flags: Defines the command's flags.
    """
    streams.replace_closed_streams()
    signal.signal(signal.SIGTERM, _raise_terminated)
    define_flags()
    module = sys.modules[define_flags.__module__]
    app.run(lambda argv: _run_main(main, argv[1:]), flags_parser=lambda argv: _parse(argv, module))


def _parse(argv: list[str], module: ModuleType) -> list[str]:
    """Parses the flags of a command; exits with code 0 after help, and 1 after an error in them."""
    if not {"-help", "--help"}.isdisjoint(argv[1:]):
        sys.exit(_exit_code(lambda: print(format_help(module))))
    try:
        return parse_flags(argv, takes_texts=getattr(module, "TAKES_TEXTS", False))
    except UserError as error:
        streams.print_message(f"error: {error.message}")
        sys.exit(1)
    except SystemExit:  # absl exits with code 1 after --helpfull
        sys.exit(0)


def _run_main(main: Main, arguments: list[str]) -> int:
    """Runs the body of a command, and returns its exit code."""
    _set_up_logging()
    return _exit_code(lambda: main(*arguments))


def _exit_code(body: Callable[[], int | None]) -> int:
    """Runs a function, prints its error if it raises one, and returns the exit code."""
    code = 0
    try:
        with streams.ignore_broken_pipe():
            code = body() or 0
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as interrupt:
        number = signal.Signals(*interrupt.args or [signal.SIGINT])
        streams.print_message(f"stopped by {number.name}")
        return 128 + number
    except Exception as error:
        expected = _translate_error(error)
        if expected is None:
            raise
        code, message = expected
        streams.print_message(f"error: {message}")
        return code


def _translate_error(error: Exception) -> tuple[int, str] | None:
    """Returns the exit code and the message of an error; None for an unexpected error."""
    if isinstance(error, UserError | RunError):
        return 1 if isinstance(error, UserError) else 2, error.message
    if isinstance(error, OSError):
        name = shorten(str(error.filename or "writing"), 200)
        return 2, f"{name}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return 2, "there is not enough memory"
    tensorflow = sys.modules.get("tensorflow")  # not every command imports it
    if tensorflow is not None and isinstance(error, tensorflow.errors.OpError):
        message = str(error.message or "no reason given").splitlines()[0]
        return 2, f"{type(error).__name__}: {message}"
    return None


class _OneLineFormatter(logging.Formatter):
    """Formats a message as one line; control characters, as in file names, are escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 logging's own name
        return escape(super().formatMessage(record))


def _set_up_logging() -> None:
    """Sends this project's log to stderr at --verbosity, and only the errors of libraries."""
    level = converter.absl_to_standard(FLAGS.verbosity)
    if level > logging.DEBUG:
        # A filter, because libraries that define absl flags reset the log level.
        absl_logging.get_absl_handler().addFilter(lambda record: record.levelno >= logging.ERROR)
    handler = ProgressHandler()
    handler.setFormatter(_OneLineFormatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    for package in ("pipeline", "model", "trainer", "scripts"):
        logger = logging.getLogger(package)
        logger.setLevel(level)
        logger.handlers = [handler]
        logger.propagate = False
