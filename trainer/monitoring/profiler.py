"""A profile of some steps: what each core or GPU does, and for how long."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf


class Profile:
    """Records what happens between two steps, for TensorBoard's profiler.

    Args:
        folder: Where it goes, in `plugins/profile`.
        steps: The step to begin at and the one to end at; nothing for no profile.
    """

    def __init__(self, folder: Path, steps: tuple[int, ...]) -> None:
        self._folder, self._steps = folder, steps
        self._is_on = False

    def steps_left(self, step: int, most: int) -> int:
        """Returns how many steps may be taken before `maybe_start_or_stop` has to be asked again."""
        return min([most, *(edge - step for edge in self._steps if edge > step)])

    def maybe_start_or_stop(self, step: int) -> None:
        """Begins or ends if it is time to, `step` steps having been taken."""
        is_wanted = bool(self._steps) and self._steps[0] <= step < self._steps[1]
        if is_wanted and not self._is_on:
            tf.profiler.experimental.start(str(self._folder))
            self._is_on = True
        elif not is_wanted:
            self.close()

    def close(self) -> None:
        """Ends, and writes what was recorded."""
        if self._is_on:
            tf.profiler.experimental.stop()
            self._is_on = False
