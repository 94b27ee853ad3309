"""What a person sees of a run: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from trainer.stopping import StopSignals

_T = TypeVar("_T")

_EXAMPLES_BETWEEN_LOOKS = 1000  # at the clock and signals
_SECONDS_BETWEEN_LINES = 15

_log = logging.getLogger(__name__)


class Progress:
    """Shows how far the steps of a run are.

    Args:
        first_step: Steps taken before this process.
        last_step: Steps of the whole run.
    """

    def __init__(self, *, first_step: int, last_step: int) -> None:
        self._bar = tqdm(
            initial=first_step,
            total=last_step,
            unit=" steps",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
            leave=False,
        )
        self._first_step, self._last_step = first_step, last_step
        self._step, self._epoch, self._values = first_step, "", ""
        self._started = self._told = time.monotonic()

    def begin_epoch(self, epoch: str) -> None:
        """Shows which epoch is trained from here on.

        Args:
            epoch: The epoch and how many there are, such as `2/5`.
        """
        self._epoch = epoch
        self._bar.set_description_str(f"epoch {epoch}")

    def advance(self, steps: int) -> None:
        """Moves the bar; where none is shown, logs a line every 15 seconds."""
        self._step += steps
        self._bar.update(steps)
        now = time.monotonic()
        if not self._bar.disable or now - self._told < _SECONDS_BETWEEN_LINES:
            return
        left = (now - self._started) / (self._step - self._first_step)
        left = tqdm.format_interval(left * (self._last_step - self._step))
        position = f"epoch {self._epoch}  step {self._step}/{self._last_step}"
        _log.info("%s", "  ".join(filter(None, (position, self._values, f"ETA {left}"))))
        self._told = now

    def tell(self, values: dict[str, float]) -> None:
        """Shows values, by name, from now on."""
        self._values = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._bar.set_postfix_str(self._values, refresh=False)

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()


@contextlib.contextmanager
def announced(what: str) -> Iterator[None]:
    """Logs what begins, and every 15 seconds that it is still running.

    Args:
        what: The work, which has no parts that can be counted.
    """
    is_done = threading.Event()
    started = time.monotonic()

    def remind() -> None:
        while not is_done.wait(_SECONDS_BETWEEN_LINES):
            _log.info("%s: %.0f s so far", what, time.monotonic() - started)

    _log.info("%s", what)
    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield
    finally:
        is_done.set()
        reminder.join()


def watched(
    parts: Iterable[_T], *, total: int, per_part: int, what: str, stop: StopSignals | None
) -> Iterator[_T]:
    """Passes parts of long work on, shows how far it is, and heeds signals.

    Args:
        parts: The parts.
        total: Reviews in all.
        per_part: Reviews in each part but the last.
        what: What is being done.
        stop: Asked between parts whether to go on.

    Raises:
        Stopped: A signal came.
    """
    told = time.monotonic()
    bar = tqdm(
        total=total, desc=what, unit=" reviews", disable=not sys.stderr.isatty(), leave=False
    )
    with bar:
        for number, part in enumerate(parts, start=1):
            yield part
            done = min(number * per_part, total)
            bar.update(done - bar.n)
            if bar.disable and time.monotonic() - told >= _SECONDS_BETWEEN_LINES:
                _log.info("%s: %d of %d reviews", what, done, total)
                told = time.monotonic()
            if stop:
                stop.check()


def counted(parts: Iterable[_T], *, what: str, stop: StopSignals | None) -> Iterator[_T]:
    """Yields parts of long work whose number is unknown, counts them, and stops at signals.

    Args:
        parts: The parts, each an example.
        what: What is being done.
        stop: Asked now and then whether to go on.

    Raises:
        Stopped: A signal came.
    """
    started = time.monotonic()
    with tqdm(
        parts, desc=what, unit=" examples", disable=not sys.stderr.isatty(), leave=False
    ) as bar:
        for number, part in enumerate(bar):
            yield part
            if number % _EXAMPLES_BETWEEN_LOOKS:
                continue
            if bar.disable and time.monotonic() - started >= _SECONDS_BETWEEN_LINES:
                _log.info("%s: %d examples", what, number + 1)
                started = time.monotonic()
            if stop:
                stop.check()


class ProgressHandler(logging.Handler):
    """Logs to stderr, above the bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record as a line."""
        tqdm.write(self.format(record), file=sys.stderr)
