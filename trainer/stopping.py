"""SIGTERM and SIGINT: noted when they come, obeyed between two steps."""

from __future__ import annotations

import signal
from types import FrameType


class Stopped(Exception):
    """The run was stopped by a signal, after saving.

    Attributes:
        signal: The signal's number; the exit code is 128 more.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


class StopSignals:
    """Notes SIGTERM and SIGINT inside a `with` block; a second one acts at once, as usual.

    Attributes:
        received: The number of the signal that has come; None: none has.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def listen_again(self) -> None:
        """Takes the signals back from who has taken them, inside a `with` block."""
        for number in self._before:
            signal.signal(number, self._note)

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def check(self) -> None:
        """Raises Stopped when a signal has come."""
        if self.received is not None:
            raise Stopped(self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
