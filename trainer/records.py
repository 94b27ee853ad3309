"""What a run leaves in its folder beside checkpoints and events: config, history, results."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import json
import logging
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.errors import Fault, Mistake
from trainer import __version__, devices, environment, processor
from trainer.config import TrainConfig, UnknownSettings
from trainer.files import replacing

_log = logging.getLogger(__name__)

_FORMAT = 1  # of config.json; a larger one has something that this code would misread
_LIBRARIES = ("tensorflow", "keras", "tensorflow-datasets", "tensorboard", "numpy")


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What config.json says of a run.

    Attributes:
        config: Its settings.
        precision: The Keras policy it is trained in, which `auto` has chosen once.
        label_names: What labels 0 and 1 are called.
        fingerprint: The SHA-256 of its vocabulary.txt.
        sizes: How many reviews its train and validation splits have.
        data: The SHA-256 of each part of its data, as `Data.fingerprints` returns them; empty for a
            run of an early version.
        branches: Into how many parts it cuts a batch; None in a run of an older version.
        environment: What else its bits depend on; see `environment.current`. A record that is read
            has the environment of the process that wrote it, a new record that of this process.
    """

    config: TrainConfig
    precision: str
    label_names: tuple[str, str]
    fingerprint: str
    sizes: dict[str, int]
    data: dict[str, str] = dataclasses.field(default_factory=dict)
    branches: int | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=environment.current)

    def write(self, model_dir: Path) -> None:
        """Writes config.json, with the versions and the device that are in use now."""
        content = {
            "format_version": _FORMAT,
            "program_version": __version__,
            "settings": dataclasses.asdict(self.config),
            "precision": self.precision,
            "label_names": self.label_names,
            "vocabulary_sha256": self.fingerprint,
            "reviews": self.sizes,
            "data_sha256": self.data,
            "versions": {
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in _LIBRARIES},
            },
            "device": devices.describe(),
            "processor": processor.model(),
            "cores": processor.cores(),
            "branches": self.branches,
            "commit": _commit(),
        }
        write_json(content, model_dir / "config.json")

    @classmethod
    def read(cls, model_dir: Path) -> RunRecord | None:
        """Reads config.json; None where there is none.

        Raises:
            Fault: It is damaged, or a newer version of the program wrote it.
        """
        path = model_dir / "config.json"
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            _check_format(content, path)
            return cls(
                config=_config_of(content, path),
                precision=content["precision"],
                label_names=tuple(content["label_names"]),
                fingerprint=content["vocabulary_sha256"],
                sizes=content["reviews"],
                data=content.get("data_sha256", {}),
                branches=_branches(content.get("branches")),
                environment=environment.recorded(content),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Fault(f"{path} is damaged ({error!r:.80}); put a good copy back") from error


def _check_format(content: Mapping[str, Any], path: Path) -> None:
    found = content.get("format_version", 0)
    if found > _FORMAT:
        raise Fault(
            f"{path} has format {found}, written by {_writer(content)}; this is version "
            f"{__version__}, which reads formats up to {_FORMAT}: use the version that wrote it"
        )


def _config_of(content: Mapping[str, Any], path: Path) -> TrainConfig:
    try:
        return TrainConfig.from_saved(content["settings"])
    except UnknownSettings as unknown:
        raise Fault(
            f"{path} has settings that this version of the program, {__version__}, does not have: "
            f"{str(unknown)!r:.80}; use the version that wrote it: {_writer(content)}"
        ) from unknown
    except Mistake as mistake:
        raise Fault(
            f"{path} has a setting that this version of the program, {__version__}, refuses "
            f"({mistake}); it is damaged, or use the version that wrote it: {_writer(content)}"
        ) from mistake


def _writer(content: Mapping[str, Any]) -> str:
    """Names the version of the program that wrote a config.json."""
    version = content.get("program_version", "an early one")
    return f"{version!s:.40} (commit {content.get('commit') or 'unknown'!s:.40})"


def _branches(recorded: object) -> int | None:
    if recorded is None or (type(recorded) is int and recorded > 0):
        return recorded
    raise ValueError(f"branches is {str(recorded)[:80]!r}")


class History:
    """history.csv and curves.png: a row and a point for each epoch.

    Args:
        model_dir: The run's folder.
        epochs: How many epochs the run has recorded; rows beyond them are void.

    Raises:
        Fault: history.csv is damaged.
    """

    def __init__(self, model_dir: Path, *, epochs: int) -> None:
        self._path = model_dir / "history.csv"
        self._curves = model_dir / "curves.png"
        self._next = model_dir / "history_next.json"
        self._rows = self._read()[:epochs]
        self._complete(epochs)
        if len(self._rows) < epochs:
            _log.warning(
                "%s lacks rows of earlier epochs: it has %d of %d and goes on without the others",
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
            raise Fault(
                f"{self._path} is damaged ({error}); put a good copy back, or delete it to go on "
                "without the rows of earlier epochs"
            ) from error
        return rows

    def prepare(self, row: Mapping[str, float]) -> None:
        """Saves an epoch's row next to history.csv until the epoch's checkpoint is saved.

        Each row of history.csv has a saved checkpoint. If a process is killed after it has saved
        the checkpoint and before it calls `append`, the process that resumes the run adds the row.
        """
        write_json(_as_written(row), self._next)

    def append(self, row: Mapping[str, float]) -> None:
        """Adds an epoch's row and draws the curves again; a row replaces one of the same epoch."""
        self._append(_as_written(row))

    def _complete(self, epochs: int) -> None:
        """Adds the row that `prepare` has kept, if it is the one that is missing."""
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
        other = "accuracy" if "train_accuracy" in self._rows[-1] else "perplexity"
        for axes, name in zip(figure.subplots(1, 2), (other, "loss"), strict=True):
            for split in ("train", "validation"):
                values = [float(row[f"{split}_{name}"]) for row in self._rows]
                axes.plot(epochs, values, marker="o", label=split)
            axes.set(xlabel="epoch", title=name, xticks=epochs[:: 1 + len(epochs) // 10])
            axes.grid(alpha=0.3)
            axes.legend()
        with replacing(self._curves) as path:
            figure.savefig(path, format="png", dpi=120)


def _as_written(row: Mapping[str, float]) -> dict[str, str]:
    # repr gives back the same float when read, so the file says what TensorBoard says.
    return {name: repr(value) for name, value in row.items()}


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Writes JSON whole or not at all."""
    with replacing(path) as new:
        new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote.

    Raises:
        Fault: It is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Fault(f"{path} is damaged ({error}); delete it and run again") from error


def _commit() -> str | None:
    """Names the git commit of the code, `-dirty` added when it is changed; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
