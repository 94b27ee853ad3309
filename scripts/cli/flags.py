"""Defines flags, one for each setting of a run, and reads their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from pipeline.errors import UserError, shorten
from pipeline.files.paths import expand_home, names_files
from scripts.cli import streams
from trainer.config import TrainConfig

FLAGS = flags.FLAGS

_DEFINE: dict[type, Callable[..., object]] = {
    str: flags.DEFINE_string,
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
}

flags.disclaim_key_flags()  # lists each flag under the command that calls these functions


def define_model_dir_flag() -> None:
    """Defines --model_dir."""
    flags.DEFINE_string("model_dir", "", "folder that contains the whole run")


def define_setting_flags(*names: str) -> None:
    """Defines a flag for each of the named fields of TrainConfig, or for all fields."""
    for field in dataclasses.fields(TrainConfig):
        if names and field.name not in names:
            continue
        default: Any = field.default
        choices, help_text = field.metadata["choices"], field.metadata["help"]
        if choices:
            flags.DEFINE_enum(field.name, default, choices, help_text)
        else:
            _DEFINE[type(default)](field.name, default, help_text)


def get_settings(model_dir: Path | None = None) -> TrainConfig:
    """Returns the settings from the flags; others are those of the run in a folder, or defaults.

    Raises:
        UserError: A value is out of its range.
        RunError: config.json in the folder is damaged.
    """
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    values = {name: getattr(FLAGS, name) for name in names if FLAGS[name].present}
    if values.get("dataset") and names_files(FLAGS.dataset):
        # Absolute, because later commands may run in another folder.
        values["dataset"] = str(get_local_path("dataset").absolute())
    for name in ("cache_dir", "teacher"):
        get_local_path(name)
    if values.get("pretrained"):
        values["pretrained"] = str(get_local_path("pretrained").absolute())
    record = None
    if model_dir and (model_dir / "config.json").is_file():
        with streams.quiet_stderr():
            from trainer.artifacts.run_record import RunRecord
        record = RunRecord.read(model_dir)
    return dataclasses.replace(record.config if record else TrainConfig(), **values)


def get_model_dir() -> Path:
    """Returns --model_dir.

    Raises:
        UserError: The flag is missing.
    """
    if not FLAGS.model_dir:
        raise UserError("name the folder of the run: --model_dir=runs/NAME")
    return get_local_path("model_dir")


def get_local_path(name: str) -> Path:
    """Returns the path in a flag, with `~` expanded.

    Raises:
        UserError: The path is a URL. Locks and atomic renames need a local file system.
    """
    value: str = getattr(FLAGS, name)
    if "://" in value:
        raise UserError(
            f"--{name}={shorten(value)} is not in a file system of this machine; mount it, for "
            "example with gcsfuse, or copy it here (only --data_dir may be a URL)"
        )
    return expand_home(value)
