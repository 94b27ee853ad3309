"""TensorBoard: what a run tells of its steps and epochs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from trainer.files import full_disk_told, replacing

SPLITS = ("train", "validation")


class Summaries:
    """Writes scalars to `model_dir/train` and `model_dir/validation`.

    Args:
        model_dir: The run's folder.
        first_step: The first step that this process writes. What an earlier process wrote from
            there on, beyond its last checkpoint, is dropped.
    """

    def __init__(self, model_dir: Path, *, first_step: int) -> None:
        self._folders = {split: model_dir / split for split in SPLITS}
        for folder in self._folders.values():
            _drop_steps_from(first_step, folder)
        self._writers = {
            split: tf.summary.create_file_writer(str(folder))
            for split, folder in self._folders.items()
        }

    def write(self, split: str, group: str, values: dict[str, float], *, step: int) -> None:
        """Writes one point on each of some curves.

        Args:
            split: `train` or `validation`.
            group: `step` or `epoch`: what the values are of.
            values: The values by name.
            step: Where on the axis; epochs too are drawn over steps.

        Raises:
            Fault: The disk is full.
        """
        with self._told(split), self._writers[split].as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(f"{group}/{name}", value)

    def flush(self) -> None:
        """Sees to it that what was written is on disk.

        Raises:
            Fault: The disk is full.
        """
        for split, writer in self._writers.items():
            with self._told(split):
                writer.flush()

    def close(self) -> None:
        """Ends the files."""
        for split, writer in self._writers.items():
            with self._told(split):
                writer.close()

    def _told(self, split: str) -> contextlib.AbstractContextManager[None]:
        return full_disk_told("events for TensorBoard", self._folders[split])


def _drop_steps_from(step: int, folder: Path) -> None:
    """Rewrites the event files of earlier processes without what is going to be written again.

    A restart mark in the events would be shorter, but TensorBoard's EventAccumulator heeds it for
    old kinds of events alone.
    """
    for path in folder.glob("*.new"):  # of a process that was killed in here
        path.unlink()
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
            with replacing(path) as new, tf.io.TFRecordWriter(str(new)) as writer:
                for record in kept:
                    writer.write(record)
