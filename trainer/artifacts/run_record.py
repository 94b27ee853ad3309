"""What a run leaves in its folder beside checkpoints and events: config, history, results."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, UserError
from trainer import __version__
from trainer.config import TrainConfig, UnknownSettingsError
from trainer.runtime import devices, environment, processor
from trainer.runtime.files import write_json

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
        data: The SHA-256 of each part of its data, as `Corpus.fingerprints` returns them; empty for a
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
            RunError: It is damaged, or a newer version of the program wrote it.
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
            raise RunError(f"{path} is damaged ({error!r:.80}); put a good copy back") from error


def _check_format(content: Mapping[str, Any], path: Path) -> None:
    found = content.get("format_version", 0)
    if found > _FORMAT:
        raise RunError(
            f"{path} has format {found}, written by {_writer(content)}; this is version "
            f"{__version__}, which reads formats up to {_FORMAT}: use the version that wrote it"
        )


def _config_of(content: Mapping[str, Any], path: Path) -> TrainConfig:
    try:
        return TrainConfig.from_saved(content["settings"])
    except UnknownSettingsError as unknown:
        raise RunError(
            f"{path} has settings that this version of the program, {__version__}, does not have: "
            f"{str(unknown)!r:.80}; use the version that wrote it: {_writer(content)}"
        ) from unknown
    except UserError as mistake:
        raise RunError(
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


def _commit() -> str | None:
    """Names the git commit of the code, `-dirty` added when it is changed; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
