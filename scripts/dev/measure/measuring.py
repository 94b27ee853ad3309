"""Measurements in separate processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pipeline.errors import RunError, UserError
from scripts.cli.flags import FLAGS

Measurement = dict[str, Any]


def check_names(flag: str, known: Collection[str]) -> None:
    """Checks the names in a flag.

    Raises:
        UserError: A name is unknown.
    """
    if unknown := [name for name in getattr(FLAGS, flag) if name not in known]:
        raise UserError(f"--{flag}={','.join(unknown)} is unknown; choose from {','.join(known)}")


def measure_in_process(
    name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> Measurement:
    """Runs a command in a new process, and returns the JSON object that it prints.

    Args:
        name: The module of the command.
        arguments: All arguments of the new process.
        environment: Environment variables to add to those of this process.

    Raises:
        RunError: The process failed; its own message is on stderr.
    """
    command = [sys.executable, "-m", name, *arguments]
    variables = os.environ | dict(environment or {})
    try:
        done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True)
    except subprocess.CalledProcessError as error:
        raise RunError(f"{' '.join(command)} failed with exit code {error.returncode}") from error
    return dict(json.loads(done.stdout))
