"""Reads the processes in TF_CONFIG, and waits until all of them have started.

TensorFlow's own wait is silent and ignores signals, so this one comes first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import socket
import time
from typing import Any

from pipeline.errors import RunError, UserError
from trainer.runtime.signals import check_stop

_log = logging.getLogger(__name__)

_TASKS = ("chief", "worker")  # in the order of their numbers
_LONGEST_WAIT = 600.0  # seconds, as TensorFlow's own
_SECONDS_BETWEEN_LINES = 15.0
_SECONDS_A_ROUND = 0.2
_SECONDS_A_TRY = 1.0
_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes that train one run together.

    Attributes:
        addresses: `host:port` of each, the chief's first.
        number: Which of them this process is.
    """

    addresses: tuple[str, ...]
    number: int

    def wait(self) -> None:
        """Waits until all other processes can be reached, and logs which cannot.

        This process listens at its own address meanwhile, so that the others find it.

        Raises:
            UserError: Its own address is in use.
            RunError: Some cannot be reached for ten minutes.
            Interrupted: A signal came.
        """
        missing = {n: "" for n in range(len(self.addresses)) if n != self.number}
        started = logged = time.monotonic()
        with _listening(self.addresses[self.number]):
            while missing:
                check_stop()
                for number in list(missing):
                    missing[number] = _trouble(self.addresses[number])
                    if not missing[number]:
                        del missing[number]
                now = time.monotonic()
                if missing and now - started > _LONGEST_WAIT:
                    raise RunError(
                        f"{self._named(missing)} could not be reached for "
                        f"{_LONGEST_WAIT / 60:.0f} minutes; start it, or correct TF_CONFIG, and "
                        "start all processes again"
                    )
                if missing and now - logged >= _SECONDS_BETWEEN_LINES:
                    _log.info("waiting for %s", self._named(missing))
                    logged = now
                if missing:
                    time.sleep(_SECONDS_A_ROUND)

    def _named(self, missing: dict[int, str]) -> str:
        """Names the first of the processes that are missing, and says how many others are."""
        number, trouble = next(iter(missing.items()))
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"process {number} at {self.addresses[number][:80]} ({trouble}){others}"


def is_configured() -> bool:
    """Says whether TF_CONFIG has a cluster.

    Raises:
        UserError: It is not a JSON object.
    """
    return "cluster" in _content()


def read_cluster() -> Cluster:
    """Reads TF_CONFIG.

    Raises:
        UserError: It is not set, or is not a cluster with one of its tasks.
    """
    content = _content()
    if "cluster" not in content:
        raise UserError(
            "--distribute=multi_worker needs the environment variable TF_CONFIG, such as "
            f"{_EXAMPLE}, with another index in each process"
        )
    jobs = content["cluster"]
    if not isinstance(jobs, dict) or not jobs:
        raise _mistake("cluster", jobs)
    for name, addresses in jobs.items():
        if name not in _TASKS:
            raise _mistake(f"cluster has the tasks {_cut(name)}, not chief or worker:", addresses)
        if not isinstance(addresses, list) or not addresses or not all(map(_is_one, addresses)):
            raise _mistake(f"cluster.{name} is not a list of addresses, host:port:", addresses)
    if len(jobs.get("chief", ())) > 1:
        raise _mistake("cluster.chief has more than one address:", jobs["chief"])
    addresses = tuple(address for task in _TASKS for address in jobs.get(task, ()))
    for address in addresses:
        if addresses.count(address) > 1:
            raise _mistake("cluster has one address more than once:", address)
    return Cluster(addresses, _number(content.get("task"), jobs))


def _number(task: object, jobs: dict[str, list[str]]) -> int:
    """Returns which of all processes this one is."""
    if not isinstance(task, dict):
        raise _mistake("task is missing, or not an object:", task)
    kind, index = task.get("type"), task.get("index")
    if kind not in list(jobs):  # it may be no string
        raise _mistake(f"task.type is none of {', '.join(jobs)}:", kind)
    if isinstance(index, str) and re.fullmatch("[0-9]{1,9}", index):  # as TensorFlow takes it
        index = int(index)
    if type(index) is not int or not 0 <= index < len(jobs[kind]):
        raise _mistake(f"task.index is none of 0 to {len(jobs[kind]) - 1}:", index)
    return index + (len(jobs.get("chief", ())) if kind == "worker" else 0)


def _content() -> dict[str, Any]:
    text = os.environ.get("TF_CONFIG", "")
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"the environment variable TF_CONFIG is not JSON ({_cut(error)}); write it such as "
            f"{_EXAMPLE}, or unset it"
        ) from error
    if not isinstance(content, dict):
        raise _mistake("it is not an object:", content)
    return content


def _mistake(what: str, value: object) -> UserError:
    return UserError(
        f"the environment variable TF_CONFIG is wrong: {what} {_cut(json.dumps(value))}; write it "
        f"such as {_EXAMPLE}, or unset it to train in one process"
    )


def _cut(value: object) -> str:
    """Cuts a value to 80 characters, with control characters escaped."""
    text = str(value).encode("unicode_escape").decode()
    return text if len(text) <= 80 else text[:79] + "…"


def _is_one(address: object) -> bool:
    """Says whether a value is an address, `host:port`."""
    if not isinstance(address, str):
        return False
    host, _, port = address.rpartition(":")
    is_port = re.fullmatch("[0-9]{1,5}", port) is not None and 0 < int(port) < 2**16
    return is_port and re.fullmatch(r"[^\s:/]+|\[[0-9a-fA-F:.%\w]+\]", host) is not None


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _trouble(address: str) -> str:
    """Tries to reach an address, and returns why it cannot be reached; empty if it can."""
    try:
        socket.create_connection(_split(address), timeout=_SECONDS_A_TRY).close()
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _listening(address: str) -> contextlib.closing[socket.socket]:
    """Opens the port of this process' own address."""
    _, port = _split(address)
    try:
        if socket.has_dualstack_ipv6():
            family = socket.AF_INET6
            with contextlib.suppress(OSError):  # a machine may have IPv6 switched off
                server = socket.create_server(("", port), family=family, dualstack_ipv6=True)
                return contextlib.closing(server)
        return contextlib.closing(socket.create_server(("", port)))
    except OSError as error:
        raise UserError(
            f"port {port} of this process' own address in TF_CONFIG, {address[:80]}, cannot be "
            f"opened ({error.strerror or error}); end the process that uses it, or name "
            "another port in all processes"
        ) from error
