"""TensorBoard: what a run tells of its steps and epochs."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

SPLITS = ("train", "validation")


class Summaries:
    """Writes scalars to `model_dir/train` and `model_dir/validation`.

    Args:
        model_dir: The run's folder.
        first_step: The first step that this process writes. What an earlier process wrote from
            there on, beyond its last checkpoint, is dropped.
    """

    def __init__(self, model_dir: Path, *, first_step: int) -> None:
        folders = {split: model_dir / split for split in SPLITS}
        for folder in folders.values():
            _drop_steps_from(first_step, folder)
        self._writers = {
            split: tf.summary.create_file_writer(str(folder)) for split, folder in folders.items()
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


def _drop_steps_from(step: int, folder: Path) -> None:
    """Rewrites the event files of earlier processes without what is going to be written again.

    A restart mark in the events would be shorter, but TensorBoard's EventAccumulator heeds it for
    old kinds of events alone.
    """
    for path in sorted(folder.glob("*tfevents*")):
        kept, is_whole = [], True
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                if Event.FromString(record).step < step:
                    kept.append(record)
                else:
                    is_whole = False
        except tf.errors.DataLossError:  # the last words of a process that was killed
            is_whole = False
        if not is_whole:
            rewritten = folder / "rewritten"
            with tf.io.TFRecordWriter(str(rewritten)) as writer:
                for record in kept:
                    writer.write(record)
            rewritten.replace(path)
