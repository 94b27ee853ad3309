"""Records SIGTERM and SIGINT when they arrive, so that a run can stop between two steps."""

from __future__ import annotations

import contextlib
import contextvars
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Protocol


class Interrupted(Exception):
    """A signal arrived inside a `StopSignals` block.

    `TrainingLoop.fit` saves the state before it raises this.

    Attributes:
        signal: The number of the signal; the exit code is 128 plus this number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


class Stop(Protocol):
    """A check for a reason to stop."""

    def check(self) -> None:
        """Raises Interrupted if the work must stop."""
        ...


_current: contextvars.ContextVar[Stop | None] = contextvars.ContextVar("stop", default=None)


def check_stop() -> None:
    """Raises Interrupted if a signal has arrived. Call it between the chunks of long work."""
    stop = _current.get()
    if stop is not None:
        stop.check()


def current_stop() -> Stop | None:
    """Returns the object that `check_stop` calls, if any."""
    return _current.get()


@contextlib.contextmanager
def use_stop(stop: Stop) -> Iterator[None]:
    """Makes `check_stop` call `stop.check` in this context."""
    token = _current.set(stop)
    try:
        yield
    finally:
        _current.reset(token)


class StopSignals:
    """Records SIGTERM and SIGINT inside a `with` block, where `check_stop` checks for them.

    A second signal has its usual effect: it ends the process immediately.

    Attributes:
        received: The number of the signal that arrived; None if there was none.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, signal._HANDLER] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._record)
        self._stack.enter_context(use_stop(self))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        self._restore()

    def install_handlers(self) -> None:
        """Installs the handlers again, after a library has replaced them."""
        for number in self._previous:
            signal.signal(number, self._record)

    def check(self) -> None:
        """Raises Interrupted if a signal has arrived."""
        if self.received is not None:
            raise Interrupted(self.received)

    def _record(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def reinstall_handlers() -> None:
    """Installs the handlers of the current StopSignals again, after a library has replaced them."""
    stop = current_stop()
    if isinstance(stop, StopSignals):
        stop.install_handlers()
