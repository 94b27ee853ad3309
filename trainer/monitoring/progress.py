"""Progress: a bar on a terminal, otherwise a log line every 15 seconds."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from trainer.runtime.signals import check_stop

_T = TypeVar("_T")

_SECONDS_BETWEEN_LINES = 15

_log = logging.getLogger(__name__)


class Progress:
    """Shows the number of completed steps of a run, `first_step` of them by earlier processes."""

    def __init__(self, *, first_step: int, last_step: int) -> None:
        self._bar = tqdm(
            initial=first_step,
            total=last_step,
            unit=" steps",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
            leave=False,
        )
        self._step, self._last_step = first_step, last_step
        self._epoch, self._values = "", ""
        self._compiled: tuple[int, float] | None = None  # step and time after the first steps
        self._logged = time.monotonic()

    def begin_epoch(self, epoch: str) -> None:
        """Shows the current epoch and the number of epochs, such as `2/5`."""
        self._epoch = epoch
        self._bar.set_description_str(f"epoch {epoch}")

    def advance(self, steps: int) -> None:
        """Adds steps to the bar; without a terminal, logs a line every 15 seconds."""
        self._step += steps
        self._bar.update(steps)
        now = time.monotonic()
        if self._compiled is None:
            self._compiled = (self._step, now)
        if not self._bar.disable or now - self._logged < _SECONDS_BETWEEN_LINES:
            return
        position = f"epoch {self._epoch}  step {self._step}/{self._last_step}"
        _log.info("%s", "  ".join(filter(None, (position, self._values, self._time_left(now)))))
        self._logged = now

    def _time_left(self, now: float) -> str:
        """Estimates the time for the other steps, without that for compiling."""
        first_step, started = self._compiled or (self._step, now)
        if self._step == first_step:
            return ""
        seconds_per_step = (now - started) / (self._step - first_step)
        return f"ETA {tqdm.format_interval(seconds_per_step * (self._last_step - self._step))}"

    def show(self, values: dict[str, float]) -> None:
        """Shows values beside the bar and in later log lines."""
        self._values = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._bar.set_postfix_str(self._values, refresh=False)

    def close(self) -> None:
        """Removes the bar."""
        self._bar.close()


@contextlib.contextmanager
def log_while_running(description: str) -> Iterator[None]:
    """Logs the start of long work without steps, and the elapsed time every 15 seconds."""
    is_done = threading.Event()
    started = time.monotonic()

    def remind() -> None:
        while not is_done.wait(_SECONDS_BETWEEN_LINES):
            _log.info("%s: %.0f s so far", description, time.monotonic() - started)

    _log.info("%s", description)
    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield
    finally:
        is_done.set()
        reminder.join()


def with_progress(
    chunks: Iterable[_T], *, description: str, total: int | None = None, chunk_size: int = 1
) -> Iterator[_T]:
    """Yields the chunks of long work, shows progress, and checks for signals.

    The total is the number of examples, if it is known. A chunk has `chunk_size` examples; the last
    one may have fewer.

    Raises:
        Interrupted: A signal arrived.
    """
    logged, done = time.monotonic(), 0
    bar = tqdm(
        total=total,
        desc=description,
        unit=" examples",
        disable=not sys.stderr.isatty(),
        leave=False,
    )
    with bar:
        for chunk in chunks:
            yield chunk
            done += chunk_size if total is None else min(chunk_size, total - done)
            bar.update(done - bar.n)
            if bar.disable and time.monotonic() - logged >= _SECONDS_BETWEEN_LINES:
                of_total = "" if total is None else f" of {total}"
                _log.info("%s: %d%s examples", description, done, of_total)
                logged = time.monotonic()
            check_stop()


class ProgressHandler(logging.Handler):
    """Logs to stderr, above the progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record as a line."""
        tqdm.write(self.format(record), file=sys.stderr)
