"""Compares runs: python -m scripts.runs runs/ [--format=table].

Prints a row for each run below the folders, the best one by validation first: the settings that
differ, the progress, the best validation value, and the results on the test split. A run is a
folder that contains config.json, and vocabulary.txt or checkpoints.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from absl import flags

from pipeline.errors import UserError, escape, shorten
from pipeline.files.paths import expand_home
from scripts.cli import commands
from scripts.cli.flags import FLAGS
from trainer.config import TrainConfig

TAKES_TEXTS = True  # the arguments are folders
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
_COLUMNS = ("status", "epochs_done", "steps_done", "metric", "validation")
_RESULTS = {f"test_{name}": name for name in ("accuracy", "loss", "macro_f1")}
_RESULTS |= {"seconds": "train_seconds"}  # columns, and their names in results.json


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_enum("format", "table", ("table", "json", "csv"), "the output format")


def main(*folders: str) -> None:
    """Prints a table, a JSON list of objects, or CSV."""
    if not folders:
        raise UserError("name a folder of runs: python -m scripts.runs runs/")
    paths = {path.parent for name in folders for path in expand_home(name).rglob("config.json")}
    files = ("vocabulary.txt", "checkpoints")
    runs = [(p, *_read_run(p)) for p in sorted(paths) if any((p / f).exists() for f in files)]
    if not runs:
        raise UserError(f"no run in {' '.join(folders)}; name a folder that contains runs")
    found = [settings for _, settings, _ in runs if settings]
    differing = [name for name in _DEFAULTS if len({repr(each[name]) for each in found}) > 1]
    rows = [
        {"run": escape(str(path)), **{name: settings.get(name) for name in differing}, **results}
        for path, settings, results in runs
    ]
    rows.sort(key=_rank)
    if FLAGS.format == "json":
        print(json.dumps(rows, indent=2))
    elif FLAGS.format == "csv":
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        cells = [list(rows[0]), *([_format(*item) for item in row.items()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for line in cells:
            print("  ".join(map(str.ljust, line, widths)).rstrip())


def _read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the settings and the results of a run; of a damaged one, what can be read."""
    settings, results = {}, dict.fromkeys([*_COLUMNS, *_RESULTS])
    path = folder / "config.json"
    try:
        settings = _DEFAULTS | json.loads(path.read_text(encoding="utf-8"))["settings"]
        results["metric"] = metric = settings["best_metric"]
        path = folder / "history.csv"
        if path.exists():  # the first epoch has ended
            rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
            values = [float(row[f"validation_{metric}"]) for row in rows]
            results["validation"] = min(values) if metric == "loss" else max(values)
            results["epochs_done"], results["steps_done"] = len(rows), int(rows[-1]["step"])
        path = folder / "results.json"
        results["status"] = "finished" if path.exists() else "unfinished"
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            results |= {name: content.get(key) for name, key in _RESULTS.items()}  # older: fewer
    except (ValueError, LookupError, TypeError, AttributeError, OSError, csv.Error) as error:
        results["status"] = shorten(escape(f"damaged: {path.name}: {error!r}"))
    return settings, results


def _rank(row: dict[str, Any]) -> tuple[bool, str, float]:
    """Returns a key that sorts by metric, and from its best value to its worst."""
    metric, value = str(row["metric"]), row["validation"]
    return value is None, metric, (value or 0) * (1 if metric == "loss" else -1)


def _format(name: str, value: object) -> str:
    if isinstance(value, float) and name not in _DEFAULTS:
        return f"{value:.1f}" if name == "seconds" else f"{value:.4f}"
    return "" if value is None else escape(str(value))


if __name__ == "__main__":
    commands.run(main, define_flags)
