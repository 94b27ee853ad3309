"""TensorBoard: what a run tells of its steps and epochs."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

SPLITS = ("train", "validation")


class Summaries:
    """Writes scalars to `model_dir/train` and `model_dir/validation`.

    Args:
        model_dir: The run's folder.
        first_step: The first step that this process writes. What an earlier process wrote from
            there on is void, and TensorBoard is told so.
    """

    def __init__(self, model_dir: Path, *, first_step: int) -> None:
        folders = {split: str(model_dir / split) for split in SPLITS}
        if first_step:
            for folder in folders.values():
                _void_steps_from(first_step, folder)
        self._writers = {
            split: tf.summary.create_file_writer(folder) for split, folder in folders.items()
        }

    def write(self, split: str, group: str, values: dict[str, float], *, step: int) -> None:
        """Writes one point on each of some curves.

        Args:
            split: `train` or `validation`.
            group: `step` or `epoch`: what the values are of.
            values: The values by name.
            step: Where on the axis; epochs too are drawn over steps.
        """
        with self._writers[split].as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(f"{group}/{name}", value)

    def flush(self) -> None:
        """Sees to it that what was written is on disk."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Ends the files."""
        for writer in self._writers.values():
            writer.close()


def _void_steps_from(step: int, folder: str) -> None:
    """Marks a restart: TensorBoard forgets what it read before of this step and later ones."""
    start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
    with tf.Graph().as_default(), tf.compat.v1.summary.FileWriter(folder) as writer:
        writer.add_session_log(start, global_step=step)
