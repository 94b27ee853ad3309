"""Runs measurements in separate processes, and measures their time and memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.errors import RunError
from scripts.cli import commands, streams
from trainer.config import TrainConfig


def measure_in_process(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Runs this command in a new process, and returns the JSON object that it prints.

    A new process is not affected by earlier measurements.

    Args:
        arguments: All arguments of the new process.
        environment: Environment variables to add to those of this process.

    Raises:
        RunError: The process failed; its own message is on stderr.
    """
    command = [sys.executable, "-m", commands.running_command().name, *arguments]
    variables = os.environ | dict(environment or {})
    try:
        done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True)
    except subprocess.CalledProcessError as error:
        raise RunError(f"{' '.join(command)} failed with exit code {error.returncode}") from error
    measurement: dict[str, Any] = json.loads(done.stdout)
    return measurement


def set_threads(config: TrainConfig) -> None:
    """Sets the number of TensorFlow's threads as training does."""
    with streams.quiet_stderr():
        from trainer.runtime import devices
    devices.set_threads(config.batch_size)


def time_call(work: Callable[[], object]) -> float:
    """Calls a function, and returns the seconds it took."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def peak_megabytes() -> int:
    """Returns the peak memory of this process, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)
