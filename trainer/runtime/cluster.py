"""Reads the workers of a run from TF_CONFIG, and waits until all of them have started.

TensorFlow waits too, but logs nothing and ignores signals, so this module waits first.
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

from pipeline.errors import RunError, UserError, escape, shorten
from trainer.runtime.signals import check_stop

_log = logging.getLogger(__name__)

_JOBS = ("chief", "worker")  # in the order of worker indices
_TIMEOUT_SECONDS = 600.0  # same as TensorFlow's own timeout
_SECONDS_BETWEEN_LOGS = 15.0
_SECONDS_BETWEEN_ATTEMPTS = 0.2
_CONNECT_SECONDS = 1.0
_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers that train one run together.

    Attributes:
        addresses: The address `host:port` of each worker, the chief's first.
        index: The index of this worker.
    """

    addresses: tuple[str, ...]
    index: int

    def wait(self) -> None:
        """Waits until all other workers can be reached, and logs those that cannot.

        Meanwhile this worker listens at its own address, so that the others can reach it.

        Raises:
            UserError: The port of this worker is in use.
            RunError: A worker cannot be reached for ten minutes.
            Interrupted: A signal arrived.
        """
        missing = {index: "" for index in range(len(self.addresses)) if index != self.index}
        started = logged = time.monotonic()
        with _listen(self.addresses[self.index]):
            while missing:
                check_stop()
                attempts = {index: _connection_error(self.addresses[index]) for index in missing}
                missing = {index: error for index, error in attempts.items() if error}
                if not missing:
                    break
                now = time.monotonic()
                if now - started > _TIMEOUT_SECONDS:
                    raise RunError(
                        f"{self._describe(missing)} could not be reached for "
                        f"{_TIMEOUT_SECONDS / 60:.0f} minutes; start it, or correct TF_CONFIG, and "
                        "start all workers again"
                    )
                if now - logged >= _SECONDS_BETWEEN_LOGS:
                    _log.info("waiting for %s", self._describe(missing))
                    logged = now
                time.sleep(_SECONDS_BETWEEN_ATTEMPTS)

    def _describe(self, missing: dict[int, str]) -> str:
        """Describes the first missing worker with its connection error, and counts the others."""
        index, error = next(iter(missing.items()))
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"worker {index} at {self.addresses[index][:80]} ({error}){others}"


def is_configured() -> bool:
    """Returns whether TF_CONFIG defines a cluster; raises a UserError if it is no JSON object."""
    return "cluster" in _read_config()


def read_cluster() -> Cluster:
    """Reads the cluster from TF_CONFIG.

    Raises:
        UserError: TF_CONFIG is not set, or does not describe a cluster and a task in it.
    """
    content = _read_config()
    if "cluster" not in content:
        raise UserError(
            "--distribute=multi_worker needs the environment variable TF_CONFIG, such as "
            f"{_EXAMPLE}, with a different index for each worker"
        )
    jobs = content["cluster"]
    if not isinstance(jobs, dict) or not jobs or not set(jobs) <= set(_JOBS):
        raise _config_error("cluster is not an object with the jobs chief and worker only:", jobs)
    for job, addresses in jobs.items():
        if not isinstance(addresses, list) or not addresses or not all(map(_is_address, addresses)):
            raise _config_error(f"cluster.{job} is not a list of addresses, host:port:", addresses)
    addresses = [address for job in _JOBS for address in jobs.get(job, [])]
    if len(set(addresses)) < len(addresses) or len(jobs.get("chief", [])) > 1:
        raise _config_error("cluster has one address more than once, or several chiefs:", jobs)
    try:
        workers = jobs[content["task"]["type"]]
        index = int(str(content["task"]["index"]))  # TensorFlow accepts a string too
        own_address = dict(enumerate(workers))[index]
    except (TypeError, LookupError, ValueError) as error:
        problem = "task is not the type and the index of a worker in cluster:"
        raise _config_error(problem, content.get("task")) from error
    return Cluster(tuple(addresses), addresses.index(own_address))


def _read_config() -> dict[str, Any]:
    try:
        content = json.loads(os.environ.get("TF_CONFIG") or "{}")
    except (ValueError, RecursionError) as error:
        raise _config_error("it is not JSON:", str(error)) from error
    if not isinstance(content, dict):
        raise _config_error("it is not an object:", content)
    return content


def _config_error(problem: str, value: object) -> UserError:
    return UserError(
        f"the environment variable TF_CONFIG is wrong: {problem} "
        f"{shorten(escape(json.dumps(value)))}; write, for example, {_EXAMPLE}, or unset it to "
        "train in one process"
    )


def _is_address(value: object) -> bool:
    """Returns whether a value is an address, `host:port`."""
    match = re.fullmatch(r"([^\s:/]+|\[[0-9a-fA-F:.%\w]+\]):([0-9]{1,5})", str(value))
    return isinstance(value, str) and match is not None and 0 < int(match[2]) < 2**16


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _connection_error(address: str) -> str:
    """Tries to connect to an address. Returns the error; empty if the connection succeeds."""
    try:
        socket.create_connection(_split(address), timeout=_CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _listen(address: str) -> contextlib.closing[socket.socket]:
    _, port = _split(address)
    try:
        if socket.has_dualstack_ipv6():
            family = socket.AF_INET6
            with contextlib.suppress(OSError):  # IPv6 may be disabled
                server = socket.create_server(("", port), family=family, dualstack_ipv6=True)
                return contextlib.closing(server)
        return contextlib.closing(socket.create_server(("", port)))
    except OSError as error:
        raise UserError(
            f"port {port} of this worker's own address in TF_CONFIG, {address[:80]}, cannot be "
            f"opened ({error.strerror or error}); end the process that uses it, or choose "
            "another port in all workers"
        ) from error
