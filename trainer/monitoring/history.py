"""The history of a run: history.csv and curves.png."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.errors import RunError
from trainer.runtime.files import read_json, replacing, write_json

_log = logging.getLogger(__name__)


class History:
    """Writes history.csv and curves.png, with a row and a point for each epoch.

    Rows after the `epochs` epochs of the checkpoint are dropped. The last row is added if the
    process was stopped between its checkpoint and `append`.

    Raises:
        RunError: history.csv is damaged.
    """

    def __init__(self, model_dir: Path, *, epochs: int) -> None:
        self._path = model_dir / "history.csv"
        self._curves = model_dir / "curves.png"
        self._next = model_dir / "history_next.json"
        self._rows = self._read()[:epochs]
        self._complete(epochs)
        if len(self._rows) < epochs:
            _log.warning(
                "%s has rows for only %d of %d epochs; the run resumes without the others",
                self._path,
                len(self._rows),
                epochs,
            )

    def accuracies(self) -> list[float]:
        """Returns the validation accuracy of each epoch so far."""
        return [float(row["validation_accuracy"]) for row in self._rows]

    def _read(self) -> list[dict[str, str]]:
        if not self._path.is_file():
            return []
        try:
            with self._path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                int(row["epoch"]), *map(float, row.values())
        except (csv.Error, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{self._path} is damaged ({error}); restore it, or delete it to resume without "
                "the rows of earlier epochs"
            ) from error
        return rows

    def prepare(self, row: Mapping[str, float]) -> None:
        """Saves an epoch's row next to history.csv until the epoch's checkpoint is saved.

        Thus every row of history.csv has a checkpoint.
        """
        write_json(_format_row(row), self._next)

    def append(self, row: Mapping[str, float]) -> None:
        """Adds an epoch's row to history.csv, and redraws the curves."""
        self._append(_format_row(row))

    def _complete(self, epochs: int) -> None:
        """Adds the row that `prepare` saved, if only this row is missing in history.csv."""
        if not self._next.is_file() or self._next.is_symlink():
            return
        row = read_json(self._next)
        if len(self._rows) == epochs - 1 and row.get("epoch") == repr(epochs):
            self._append(row)
        else:
            self._next.unlink()

    def _append(self, row: dict[str, str]) -> None:
        self._rows.append(row)
        with replacing(self._path) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)
        self._draw()
        self._next.unlink(missing_ok=True)

    def _draw(self) -> None:
        figure = Figure(figsize=(9, 3.5), layout="constrained")
        epochs = [int(row["epoch"]) for row in self._rows]
        for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
            for split in ("train", "validation"):
                values = [float(row[f"{split}_{name}"]) for row in self._rows]
                axes.plot(epochs, values, marker="o", label=split)
            axes.set(xlabel="epoch", title=name, xticks=epochs[:: 1 + len(epochs) // 10])
            axes.grid(alpha=0.3)
            axes.legend()
        with replacing(self._curves) as path:
            figure.savefig(path, format="png", dpi=120)


def _format_row(row: Mapping[str, float]) -> dict[str, str]:
    # float(repr(value)) == value, so history.csv and TensorBoard have the same numbers.
    return {name: repr(value) for name, value in row.items()}
