"""The JSON files of benchmark, compare and fine_tuning: results, and where they come from."""

from __future__ import annotations

import datetime
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

from pipeline.errors import UserError
from pipeline.files.paths import expand_home
from scripts.cli import streams
from scripts.cli.flags import FLAGS

ROOT = Path(__file__).parents[3]

# These flags do not change a result: they name files of one machine.
_PRIVATE = ("json", "picture", "data_dir", "cache_dir")


class Record(TypedDict):
    """The content of a JSON file.

    Attributes:
        command: The command to type, without flags and folders that only one machine has.
        commit: The short hash of the measured code; `+changes` if it was changed and not committed;
            `unknown` without git.
        date: The ISO date.
        processor: The number of cores and the processor, and the GPU if there is one.
        results: What the command measured; module `tables` formats it.
    """

    command: str
    commit: str
    date: str
    processor: str
    results: dict[str, Any]


class Recorder:
    """Writes the results of a command to its --json file after each measurement.

    Create it before the first measurement: the commit is that at the start.
    """

    def __init__(self, command: str) -> None:
        """Checks the folder of --json.

        Args:
            command: The module of the command, such as `scripts.dev.compare`.

        Raises:
            UserError: The folder of --json does not exist.
        """
        self._path = expand_home(FLAGS.json) if FLAGS.json else None
        if self._path and not self._path.parent.is_dir():
            raise UserError(f"--json={FLAGS.json}: there is no folder {self._path.parent}")
        self._command = format_command(command, sys.argv[1:])
        self._head = _run_git("rev-parse", "--short", "HEAD")

    def write(self, results: dict[str, Any]) -> None:
        """Replaces the file atomically; does nothing without --json."""
        if not self._path:
            return
        with streams.quiet_stderr():
            from trainer.runtime.files import write_json
        record = Record(
            command=self._command,
            commit=self._describe_commit(),
            date=datetime.date.today().isoformat(),
            processor=_describe_processor(),
            results=results,
        )
        write_json(record, self._path)

    def _describe_commit(self) -> str:
        """Returns the commit at the start, with `+changes` if tracked files differ (not docs/)."""
        if self._head is None:
            return "unknown"
        changed = _run_git("diff", "--name-only", self._head, "--", ".", ":!docs")
        return f"{self._head}+changes" if changed else self._head


def read_record(path: Path) -> Record:
    """Reads a JSON file that a Recorder wrote.

    Raises:
        UserError: The file is not such a file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict) or not Record.__annotations__.keys() <= content.keys():
        raise UserError(f"{path} is no file that --json of benchmark, compare or fine_tuning wrote")
    return cast(Record, content)


def format_command(command: str, arguments: Sequence[str]) -> str:
    """Formats a command and its flags as a user types them."""
    words = [f"python -m {command}"]
    for name, value in _split_flags(arguments):
        if name not in _PRIVATE:
            words.append(f"--{name}" if value is None else f"--{name}={_quote(value)}")
    return " ".join(words)


def _split_flags(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yields names and values; a value is None if there is none."""
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.lstrip("-").partition("=")
        if not equals and name in FLAGS and not FLAGS[name].boolean:
            yield name, next(rest, "")
        else:
            yield name, value if equals else None


def _quote(value: str) -> str:
    return shlex.quote(name_without_folder(value)) if value else ""


def name_without_folder(value: str) -> str:
    """Shortens a path outside of this project to its name; other values are unchanged."""
    if not value.startswith(("/", "~", "../")):
        return value
    path = expand_home(value)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def _run_git(*arguments: str) -> str | None:
    """Returns the output of git in this project; None if git fails."""
    if not (ROOT / ".git").exists():  # git would use a repository that contains this folder
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode().strip()


def _describe_processor() -> str:
    """Describes cores, processor and GPU: `2 cores of AMD EPYC (family 25, model 17)`."""
    from trainer.runtime import processor  # here, because benchmark measures the time of imports

    cores = processor.cores()
    text = f"{cores} {'core' if cores == 1 else 'cores'} of {processor.model()}"
    fields = {}
    if (path := Path("/proc/cpuinfo")).exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    if "cpu family" in fields and "model" in fields:
        text += f" (family {fields['cpu family']}, model {fields['model']})"
    tf = sys.modules.get("tensorflow")
    if tf is None or not (gpus := tf.config.list_physical_devices("GPU")):
        return text
    details = tf.config.experimental.get_device_details(gpus[0])
    return f"{text} and {details.get('device_name', 'a GPU')}"
