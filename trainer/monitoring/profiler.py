"""Records a profile of some training steps: the operations of each core or GPU over time."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf


class Profile:
    """Records a profile between two steps, for TensorBoard's profiler.

    Args:
        folder: The profile is written to `plugins/profile` in this folder.
        steps: (A, B): records steps A + 1 to B; empty for no profile.
    """

    def __init__(self, folder: Path, steps: tuple[int, ...]) -> None:
        self._folder, self._steps = folder, steps
        self._is_recording = False

    def begin_steps(self, step: int, count: int) -> int:
        """Starts or stops recording, if it is due after `step` steps.

        Returns:
            The number of steps until the next call is due, at most `count`.
        """
        is_due = bool(self._steps) and self._steps[0] <= step < self._steps[1]
        if is_due and not self._is_recording:
            tf.profiler.experimental.start(str(self._folder))
            self._is_recording = True
        elif not is_due:
            self.close()
        return min([count, *(edge - step for edge in self._steps if edge > step)])

    def close(self) -> None:
        """Stops recording, and writes the profile."""
        if self._is_recording:
            tf.profiler.experimental.stop()
            self._is_recording = False
