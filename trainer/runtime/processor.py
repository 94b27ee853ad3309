"""The model of the processor, and the number of cores that this process may use."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import joblib


def model() -> str:
    """Returns the model of the processor, such as `AMD EPYC 9B45`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine() or "unknown"


def cores() -> int:
    """Returns the number of cores that this process may use, at least 1.

    A container often sees all cores of its host, but its CPU quota allows it the time of fewer
    cores. More threads would only wait for each other. A quota of 1.5 cores counts as 2.
    """
    return joblib.cpu_count()


def affinity() -> int:
    """Returns the number of cores that this process may be scheduled on; ignores CPU quotas."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
