"""The record of a run, config.json: its settings, data, and environment; and settings.flags."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, UserError, quote
from trainer import __version__
from trainer.config import TrainConfig
from trainer.runtime import devices, processor
from trainer.runtime.files import replacing, write_json

_log = logging.getLogger(__name__)

_FORMAT = 1  # the format of config.json; this code cannot read later formats
_EXACT_LIBRARIES = ("tensorflow", "keras")  # exact results depend on their kernels and layers
_LIBRARIES = (*_EXACT_LIBRARIES, "tensorflow-datasets", "tensorboard", "numpy")
_PROGRAM = "text-sentiment"
_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def _current_environment() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _EXACT_LIBRARIES}
    return {"processor": processor.model(), **versions, _PROGRAM: __version__}


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The content of config.json.

    Attributes:
        config: The settings of the run.
        precision: The Keras dtype policy of the run; `auto` is already resolved.
        label_names: The names of the labels.
        fingerprint: The SHA-256 of vocabulary.txt.
        sizes: The number of examples of each split that training reads.
        data: The SHA-256 of each split, from `Corpus.fingerprints`.
        branches: The number of branches into which the model splits a batch; None: the default.
        environment: The processor and the versions of libraries and of this program in the process
            that wrote config.json; for a new record, those of this process.
    """

    config: TrainConfig
    precision: str
    label_names: tuple[str, ...]
    fingerprint: str
    sizes: dict[str, int]
    data: dict[str, str] = dataclasses.field(default_factory=dict)
    branches: int | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=_current_environment)

    def write(self, model_dir: Path) -> None:
        """Writes config.json, with the versions and the device of this process; settings.flags."""
        content = {
            "format_version": _FORMAT,
            "program_version": __version__,
            "settings": dataclasses.asdict(self.config),
            "precision": self.precision,
            "label_names": self.label_names,
            "vocabulary_sha256": self.fingerprint,
            "reviews": self.sizes,  # the name since format 1
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
        with replacing(model_dir / "settings.flags") as new:
            new.write_text("\n".join(self._flag_lines()) + "\n", encoding="utf-8")

    def _flag_lines(self) -> list[str]:
        """Returns the lines of settings.flags: the settings that differ from the defaults."""
        lines = ["# Settings that are not the defaults, for another run: --flagfile=THIS_FILE"]
        for field in dataclasses.fields(self.config):
            value = getattr(self.config, field.name)
            line = f"--{field.name}={value}"
            if line != line.strip() or re.search("[\r\n\ud800-\udfff]", line):
                line = f"# --{field.name} is left out: a flag file cannot contain {quote(value)}"
            if value != field.default:
                lines.append(line)
        in_memory = ["# The data was in memory, so name the data:", "--dataset="]
        return lines + (in_memory if "arrays" in self.data else [])

    @classmethod
    def read(cls, model_dir: Path) -> RunRecord | None:
        """Reads config.json. Returns None if the file does not exist.

        Raises:
            RunError: The file is damaged, or a newer version of the program wrote it.
        """
        path = model_dir / "config.json"
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            config = _read_config(content, path)
            _check_values(content, config)
            found = {"processor": content.get("processor"), **content.get("versions", {})}
            found[_PROGRAM] = content.get("program_version")
            return cls(
                config=config,
                precision=content["precision"],
                label_names=tuple(content["label_names"]),
                fingerprint=content["vocabulary_sha256"],
                sizes=content["reviews"],
                data=content.get("data_sha256", {}),
                branches=content.get("branches"),
                environment={
                    name: found[name] for name in _current_environment() if found.get(name)
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{path} is damaged ({error!r:.80}); restore a good copy") from error

    def check_data_kind(self, is_in_memory: bool, model_dir: Path) -> None:
        """Checks that data in memory is given if and only if the run was trained on such data.

        Raises:
            UserError: It is not.
        """
        if self.data and is_in_memory != ("arrays" in self.data):
            trained_on = self.config.dataset if is_in_memory else "data in memory"
            advice = "leave out data=" if is_in_memory else "in Python, train with data= again"
            raise UserError(
                f"the run in {model_dir} was trained on {trained_on}; {advice}, or name another "
                "--model_dir"
            )

    def warn_of_changes(self, model_dir: Path) -> None:
        """Logs one warning if a run is resumed in another environment, where results may differ."""
        now = _current_environment()
        changes = [
            f"{name} {before} there, {now[name]} here"
            for name, before in self.environment.items()
            if before != now[name]
        ]
        usual = devices.choose_branches(self.config.batch_size)
        if self.branches not in (None, usual):
            changes.append(
                f"{self.branches} branches per batch, which are kept; {usual} would suit the cores"
            )
        if changes:
            _log.warning(
                "%s was started in another environment (%s): it is resumed, but its results may "
                "differ from those of an uninterrupted run",
                model_dir,
                "; ".join(changes),
            )


def _read_config(content: Mapping[str, Any], path: Path) -> TrainConfig:
    """Checks the format, and returns the settings."""
    settings, found = dict(content["settings"]), content.get("format_version", 0)
    reason = f"format {found}"
    if found <= _FORMAT:
        try:
            return TrainConfig(**settings)
        except (TypeError, UserError) as error:  # a setting that does not exist, or its value
            reason = str(error)
    raise RunError(
        f"{path} cannot be read by this version of the program, {__version__} ({reason}); if the "
        "file is not damaged, use the version that wrote it: "
        f"{content.get('program_version')!s:.40} (commit {content.get('commit')!s:.40})"
    )


def _check_values(content: Mapping[str, Any], config: TrainConfig) -> None:
    """Checks the types and ranges of the values; raises a ValueError."""
    labels, branches = content["label_names"], content.get("branches")
    are_valid = {
        "precision": content["precision"] in _PRECISIONS,
        "label_names": isinstance(labels, list) and len(labels) > 1 and _have_type(labels, str),
        "vocabulary_sha256": isinstance(content["vocabulary_sha256"], str),
        "reviews": _have_type(content["reviews"].values(), int),
        "data_sha256": _have_type(content.get("data_sha256", {}).values(), str),
        "branches": branches is None
        or (type(branches) is int and 0 < branches <= config.batch_size),
    }
    for name, is_valid in are_valid.items():
        if not is_valid:
            raise ValueError(f"{name} is {str(content[name])[:50]!r}")


def _have_type(values: Iterable[object], expected: type) -> bool:
    return all(type(value) is expected for value in values)


def _commit() -> str | None:
    """Returns the git commit of the code, with `-dirty` if it has changes; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
