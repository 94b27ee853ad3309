"""Writes the model card: data, results, limits and training of a model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.artifacts.run_record import RunRecord
from trainer.config import TrainConfig
from trainer.runtime.files import read_json

# Settings that concern only the machine on which the model was trained.
_MACHINE_SETTINGS = ("data_dir", "cache_dir", "cache_gb", "download")
_METRICS = (
    *("accuracy", "top_5_accuracy", "macro_f1", "auc", "precision", "recall", "f1", "loss"),
    "calibration_error",
)
_SHOWN_LABELS = 10
_CLASS_HEADER = "| label | examples | precision | recall | F1 |"


def model_card(
    model_dir: Path, record: RunRecord, *, best_epoch: int, value: float, tokens: int
) -> str:
    """Returns the card of a run's best model in Markdown (Mitchell et al., Model Cards, FAT* 2019).

    Its best metric is `value`, and its vocabulary has `tokens` tokens.

    Raises:
        RunError: results.json or config.json is damaged.
    """
    names = [f"`{name}`" for name in record.label_names]
    labels = f"{', '.join(names[:-1])} or {names[-1]}"
    if len(names) > _SHOWN_LABELS:
        labels = f"{', '.join(names[:_SHOWN_LABELS])} or one of {len(names) - _SHOWN_LABELS} others"
    shown = f"of the label {names[1]}" if len(names) == 2 else "of each label"
    metric = record.config.best_metric
    dataset = _without_folder(record.config.dataset)
    sizes = ", ".join(f"{count} {split}" for split, count in record.sizes.items())
    sections = [
        f"# Text classification: {labels.replace('`', '')}",
        f"The model takes a text. It returns the probability {shown}, and the most probable of the "
        f"labels {labels}.",
        "## Data",
        f"The data set is `{dataset}`. Numbers of examples: {sizes}.",
        "## Results",
        f"The model is that of epoch {best_epoch}, which has the best validation {metric}: "
        f"{value:.4f} (a loss is that before calibration)."
        if record.config.has_steps
        else f"The cross-fitted {metric} on the train split is {value:.4f}.",
        _results(model_dir),
        "## Limits",
        _limits(record.config, dataset, tokens),
        "## Training",
        _training(record, read_json(model_dir / "config.json")),
    ]
    return "\n\n".join(sections) + "\n"


def _results(model_dir: Path) -> str:
    path = model_dir / "results.json"
    if not path.is_file():
        return "The model has not been evaluated on the test split."
    results = read_json(path)
    # A run of an early version lacks some metrics. An undefined metric is null.
    metrics = {name: results[name] for name in _METRICS if name in results}
    rows = [
        f"| {name} | {'undefined' if value is None else f'{value:.4f}'} |"
        for name, value in metrics.items()
    ]
    by_class = [
        f"| {name.replace('|', '/')} | {row['examples']} | {row['precision']:.4f} "
        f"| {row['recall']:.4f} | {row['f1']:.4f} |"
        for name, row in results.get("classes", {}).items()
    ]
    by_length = [
        f"| {row['tokens']} | {row['examples']} | {row['accuracy']:.4f} |"
        for row in results["by_length"]
    ]
    return "\n".join(
        [
            f"| {results['examples']} examples of the {results['split']} split | |",
            "|---|---|",
            *rows,
            *(["", _CLASS_HEADER, "|---|---|---|---|---|", *by_class] if by_class else ()),
            "",
            "| tokens per text | examples | accuracy |",
            "|---|---|---|",
            *by_length,
        ]
    )


def _limits(config: TrainConfig, dataset: str, tokens: int) -> str:
    end = {"head": "the first ", "tail": "the last "}.get(config.truncate, "")
    both_ends = ", half of them at each end" if config.truncate == "ends" else ""
    calibration = "on the validation split"
    if not config.has_steps:
        calibration = "by cross-fitting on the train split"
    removed = "markup" if config.punctuation == "keep" else "markup and punctuation"
    reading = (
        f"in lower case and without {removed}. It knows the {tokens} most frequent tokens "
        "of its training texts; all other tokens are treated alike."
    )
    if config.pretrained:
        reading = (
            "as word pieces. Its encoder was pretrained on other texts, which are not described "
            f"here, and reads at most {config.encoder_length or 'as many as it has positions'} of "
            "these tokens."
        )
    return "\n".join(
        [
            f"- The accuracy is unknown for texts that differ from `{dataset}` in kind, language "
            "or time.",
            f"- The model reads at most {end}{config.sequence_length} tokens of a text"
            f"{both_ends}, {reading}",
            f"- Probabilities are calibrated {calibration}. For other kinds of text, the model may "
            "be too confident.",
            "- There is no other label. A text of no label, or of several, still gets one.",
        ]
    )


def _training(record: RunRecord, content: Mapping[str, Any]) -> str:
    """Describes the training, with the device, commit and versions of a config.json."""
    versions = content.get("versions") or {"TensorFlow": "unknown"}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"Precision: {record.precision}. Device: {content.get('device', 'unknown')}. Commit: "
        f"{content.get('commit') or 'unknown'}. Versions: {listed}.\n\n"
        f"{_settings(record.config)}"
    )


def _settings(config: TrainConfig) -> str:
    rows = [
        f"| {field.name} | {_shorten(getattr(config, field.name))} |"
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default and field.name not in _MACHINE_SETTINGS
    ]
    if not rows:
        return "All settings have their default values."
    return "\n".join(["| setting that differs from the default | value |", "|---|---|", *rows])


def _shorten(value: object) -> object:
    """Shortens a path to its last component, because its folders may be private."""
    return _without_folder(value) if isinstance(value, str) and os.sep in value else value


def _without_folder(path: str) -> str:
    return Path(path).name or path
