"""The model of the processor, and the number of cores that this process may use."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

_V1_FOLDERS = ("cpu,cpuacct", "cpuacct,cpu", "cpu")  # mount points of the cgroup v1 controller


def model() -> str:
    """Returns the model of the processor, such as `AMD EPYC 9B45`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine() or "unknown"


def cores(root: Path = Path("/")) -> int:
    """Returns the number of cores that this process may use, at least 1.

    A container often sees all cores of its host, but its CPU quota allows it the time of fewer
    cores. More threads would only wait for each other. A quota of 1.5 cores counts as 2. The folder
    `root` contains `proc` and `sys`.
    """
    quotas = [_quota(folder) for folder in _groups(root)]
    return max(1, min([affinity(), *(math.ceil(quota) for quota in quotas if quota > 0)]))


def affinity() -> int:
    """Returns the number of cores that this process may be scheduled on; ignores CPU quotas."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(root: Path) -> Iterator[Path]:
    """Yields the folders of this process' control groups and of their parents."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            bases = [mounts, mounts / "unified"]
        elif "cpu" in controllers.split(","):
            bases = [mounts / name for name in _V1_FOLDERS]
        else:
            continue
        for base in bases:
            group = base / path.strip("/")
            # In a container, the path may be the one on the host, and `base` the group itself.
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(base))


def _quota(folder: Path) -> float:
    """Returns the CPU quota of a control group in cores; 0 or less if it has none."""
    v2 = folder / "cpu.max"
    v1 = folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"
    try:
        files = [v2] if v2.is_file() else v1
        quota, period = " ".join(path.read_text(encoding="utf-8") for path in files).split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # without a quota, it is "max"
        return 0.0
