"""What all commands share: flags from settings, quiet libraries, errors in one line, exit codes.

Nothing heavy is imported here, nor at the top of a command: `--help` and a mistyped flag answer
at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from absl import logging as absl_logging

from pipeline import DATASETS
from pipeline.errors import RunError, UserError, escape, quote, shorten
from scripts.cli import streams
from scripts.cli.running import dashed_texts, no_flagfile, running, running_command
from trainer.config import GROUPS, TrainConfig
from trainer.monitoring.progress import ProgressHandler

FLAGS = flags.FLAGS
_HELP_COLUMN = 34
_LONGEST_FLAG_ERROR = 200
_PACKAGES = ("pipeline", "model", "trainer", "scripts")

flags.disclaim_key_flags()  # --help lists a flag under the command that asks for it


def define_model_dir_flag() -> None:
    """Defines --model_dir."""
    flags.DEFINE_string("model_dir", "", "folder of the run; everything about it is in there")


def define_setting_flags(*names: str) -> None:
    """Defines a flag for each of these fields of TrainConfig; for all, if none is named."""
    define = {
        str: flags.DEFINE_string,
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
    }
    for field in dataclasses.fields(TrainConfig):
        if names and field.name not in names:
            continue
        choices, text = field.metadata["choices"], field.metadata["help"]
        if choices:
            flags.DEFINE_enum(field.name, field.default, choices, text)
        else:
            define[type(field.default)](field.name, field.default, text)


def settings() -> TrainConfig:
    """Makes the settings from the flags.

    Raises:
        UserError: A value is out of its range.
    """
    names = (field.name for field in dataclasses.fields(TrainConfig))
    values = {name: FLAGS[name].value for name in names}
    if not values["dataset"]:
        raise UserError(f"name the data: --dataset=FILE, or one of {', '.join(DATASETS)}")
    if values["dataset"] not in DATASETS:  # the run is used from other folders too
        values["dataset"] = str(local_path("dataset").absolute())
    for name in ("cache_dir", "teacher"):
        local_path(name)
    return TrainConfig(**values)


def set_threads(config: TrainConfig) -> None:
    """Sets TensorFlow's threads as training does, for measurements without `train`."""
    with quiet_stderr():
        from trainer.runtime import devices
    devices.set_threads(config.batch_size)


def local_path(flag: str) -> Path:
    """Returns the path that a flag names.

    Raises:
        UserError: It is none of this machine's: runs have locks, and files that are replaced whole.
    """
    if "://" in FLAGS[flag].value:
        raise UserError(
            f"--{flag}={shorten(FLAGS[flag].value)} is not in a file system of this machine; mount it, "
            "as gcsfuse does, or copy it here (--data_dir alone may be such an address)"
        )
    return Path(FLAGS[flag].value).expanduser()


def train(arguments: list[str]) -> int:
    """Trains, and prints results.json on stdout.

    Args:
        arguments: Those that are not flags.

    Returns:
        The exit code.

    Raises:
        UserError, RunError: As `trainer.run.train` does.
    """
    refuse(arguments)
    config, folder = settings(), model_dir()
    with quiet_stderr():
        from trainer.run import train
        from trainer.runtime.signals import Interrupted, StopSignals
    try:
        with StopSignals():
            results = train(config, folder)
    except Interrupted as stopped:
        command = running()
        again = shlex.join([sys.executable, "-m", command.name, *command.arguments])
        note(f"{stopped}, everything saved; to go on: {again}")
        return 128 + stopped.signal
    if results:
        print(json.dumps(results, indent=2))
    return 0


def model_dir() -> Path:
    """Returns --model_dir.

    Raises:
        UserError: It was not given.
    """
    if not FLAGS.model_dir:
        raise UserError("name the folder of the run: --model_dir=runs/NAME")
    return local_path("model_dir")


def refuse(arguments: list[str]) -> None:
    """Refuses arguments that are not flags.

    Raises:
        UserError: There are some.
    """
    if arguments:
        raise UserError(f"{quote(arguments[0])} is not a flag; write --name=value")


Main = Callable[[list[str]], int | None]


def run(main: Main, define_flags: Callable[[], None]) -> None:
    """Runs a command and exits.

    Exit codes: 0 done, 1 a user's mistake, 2 a fault of data, disk or numbers, 128 + n stopped by
    signal n. Mistakes and faults are told in one line on stderr.

    Args:
        main: Takes the arguments that are not flags.
        define_flags: Defines the command's flags.
    """
    streams.open_closed()
    with running_command(define_flags, sys.argv[1:]):
        app.run(lambda argv: _guarded(main, argv[1:]), flags_parser=_parse)


def call(main: Main, define_flags: Callable[[], None], arguments: Sequence[str]) -> int:
    """Runs a command in this process; may be called repeatedly.

    Args:
        main: As for `run`.
        define_flags: As for `run`.
        arguments: As they are typed after the command's name.

    Returns:
        The exit code.
    """
    with running_command(define_flags, arguments):
        try:
            rest = _parse([running().name, *arguments])
        except SystemExit as ended:  # after --help, or flags that cannot be read
            return ended.code
        return _guarded(main, rest[1:])


def _parse(argv: list[str]) -> list[str]:
    if any(argument.lstrip("-") == "help" for argument in argv[1:] if argument.startswith("-")):
        with _readers_may_go():
            print(_help(), flush=True)
        sys.exit(0)
    takes_texts = getattr(running().module, "TAKES_TEXTS", False)
    texts = dashed_texts(argv) if takes_texts else {}
    try:
        rest = FLAGS([texts.get(number, argument) for number, argument in enumerate(argv)])
    except flags.CantOpenFlagFileError as error:
        print_error(no_flagfile(argv, error))
        sys.exit(1)
    except flags.Error as error:
        hint = "; a text that begins with a dash goes after --" if takes_texts else ""
        message = shorten(" ".join(str(error).split()), _LONGEST_FLAG_ERROR)
        print_error(f"{message}; --help lists the flags{hint}")
        sys.exit(1)
    originals = {stand_in: argv[number] for number, stand_in in texts.items()}
    return [originals.get(argument, argument) for argument in rest]


def _help() -> str:
    """Describes the command and its own flags, settings in groups."""
    main = running().module
    settings = {field.name for field in dataclasses.fields(TrainConfig)}
    own = FLAGS.get_key_flags_for_module(main)
    parts = [main.__doc__.strip(), ""]
    parts.append(_flag_help("flagfile", "", "read flags from a file, as in scripts/recipes"))
    for flag in sorted(own, key=lambda flag: flag.name in settings):
        if flag.name in GROUPS and len(own) > len(GROUPS):
            parts += ["", f"{GROUPS[flag.name]}:"]
        parts.append(_flag_help(flag.name, flag.default, flag.help))
    parts += ["", _flag_help("verbosity", 0, "-1: warnings alone; 1: all that there is to know")]
    return "\n".join([*parts, "--helpfull lists those of the libraries too."])


def _flag_help(name: str, default: object, text: str) -> str:
    """Tells a flag with its default, and beside them what it does, in the terminal's width."""
    start = f"  --{name}={'' if default is None else default}"
    width = min(max(shutil.get_terminal_size().columns, 80), 120)
    told = textwrap.indent(textwrap.fill(text, width - _HELP_COLUMN), " " * _HELP_COLUMN)
    if len(start) > _HELP_COLUMN - 2:
        return f"{start}\n{told}"
    return start + told[len(start) :]


@contextlib.contextmanager
def _readers_may_go() -> Iterator[None]:
    """Ends quietly when the reader of stdout has gone, as `| head` does."""
    try:
        yield
    except BrokenPipeError:
        # Nothing is said at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _guarded(main: Callable[[list[str]], int | None], arguments: list[str]) -> int:
    _set_up_logging()
    code = 0
    try:
        with _readers_may_go():
            code = main(arguments) or 0
            sys.stdout.flush()
        return code
    except UserError as mistake:
        print_error(mistake)
        return 1
    except RunError as fault:
        print_error(fault)
        return 2
    except OSError as error:
        print_error(f"{shorten(str(error.filename or 'writing'), 200)}: {error.strerror or error}")
        return 2
    except MemoryError:
        print_error("there is not enough memory")
        return 2
    except KeyboardInterrupt:
        note("stopped by SIGINT")
        return 130
    except Exception as error:
        # TensorFlow's own: no memory, no disk. Not imported here, only looked at.
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is None or not isinstance(error, tensorflow.errors.OpError):
            raise
        print_error(
            f"{type(error).__name__}: {(error.message or 'no reason given').splitlines()[0]}"
        )
        return 2


def measured_apart(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Runs this command in a process of its own, for the JSON object that it prints.

    Args:
        arguments: All of its arguments.
        environment: What is added to this process' environment.

    Raises:
        RunError: It failed; what it said is on stderr.
    """
    command = [sys.executable, "-m", running().name, *arguments]
    environment = os.environ | (environment or {})
    try:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    except subprocess.CalledProcessError as error:
        raise RunError(f"{' '.join(command)} ended with exit code {error.returncode}") from error
    return json.loads(done.stdout)


def note(message: object) -> None:
    """Writes one line on stderr, control characters escaped."""
    with contextlib.suppress(BrokenPipeError):
        print(escape(" ".join(str(message).split())), file=sys.stderr, flush=True)


def print_error(message: object) -> None:
    """Tells what is wrong, in one line on stderr."""
    note(f"error: {message}")


class _Line(logging.Formatter):
    """Formats a message as one line, control characters escaped: names of files may have some."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 logging's own name
        """Formats the message without a traceback."""
        return escape(super().formatMessage(record))


def _set_up_logging() -> None:
    """Sends what the project logs to stderr by --verbosity, and only errors of the libraries."""
    level = absl_logging.converter.absl_to_standard(FLAGS.verbosity)
    if level > logging.DEBUG:
        # A filter, not a level: libraries touch absl's flags, which sets levels anew.
        absl_logging.get_absl_handler().addFilter(lambda record: record.levelno >= logging.ERROR)
    handler = ProgressHandler()
    handler.setFormatter(_Line("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    for package in _PACKAGES:
        logger = logging.getLogger(package)
        logger.setLevel(level)
        logger.handlers = [handler]
        logger.propagate = False


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back stderr while TensorFlow is imported, and shows it if the import fails.

    TensorFlow 2.21 writes of CUDA, CPU features and its own logging before any of its settings is
    in force; TF_CPP_MIN_LOG_LEVEL keeps it quiet after that. Set that to 0 to see it all.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
