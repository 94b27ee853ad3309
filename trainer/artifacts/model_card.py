"""A model card: what a model is, what it was trained on, how good it is, what it is not for."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from trainer.artifacts.run_record import RunRecord
from trainer.config import TrainConfig
from trainer.runtime.files import read_json

# Settings that concern only the machine that the run was trained on.
_PLACES = ("data_dir", "cache_dir", "cache_gb", "download")
_FIGURES = (
    "accuracy",
    "auc",
    "precision",
    "recall",
    "f1",
    "macro_f1",
    "loss",
    "calibration_error",
)


def model_card(model_dir: Path, record: RunRecord, *, best_epoch: int, loss: float) -> str:
    """Writes the card of a run's best model, in Markdown (Mitchell et al., Model Cards, FAT* 2019).

    Args:
        model_dir: The run's folder.
        record: What its config.json says.
        best_epoch: The epoch that the model is of.
        loss: Its loss on the validation split.

    Raises:
        RunError: results.json is damaged.
    """
    first, second = record.label_names
    config, facts = record.config, read_json(model_dir / "config.json")
    dataset = _without_folder(config.dataset)
    sizes = ", ".join(f"{count} {split}" for split, count in record.sizes.items())
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return "\n".join(
        [
            f"# Classification of texts: {first} or {second}",
            "",
            f"Takes a text and answers the probability that it is `{second}`, and the likelier of "
            f"`{first}` and `{second}`.",
            "",
            "## Data",
            "",
            f"`{dataset}`; reviews: {sizes}.",
            "",
            "## Results",
            "",
            f"Epoch {best_epoch}, the best of those trained on the validation split, with a loss "
            f"of {loss:.4f} there.",
            "",
            *_results(model_dir),
            "",
            "## Limits",
            "",
            f"- Nothing is known of how good it is on texts of another kind than `{dataset}`"
            ", of another language, or of another time.",
            f"- It reads {_read(config)}, in lower case, without markup"
            f"{'' if config.punctuation == 'keep' else ' and punctuation'}; all words but the "
            f"{config.vocab_size - 2} most frequent of its training reviews are one to it.",
            "- A probability is honest where texts are like the validation reviews, on which it "
            "was calibrated; elsewhere it may be too sure.",
            f"- It knows no third answer: a text that is neither, or both, gets {first} or {second}"
            " as well.",
            "",
            "## Training",
            "",
            f"In {record.precision} on {facts['device']}, commit {facts['commit'] or 'unknown'}; "
            f"{versions}. Settings that are not the default ones:",
            "",
            *_settings(config),
            "",
        ]
    )


def _results(model_dir: Path) -> list[str]:
    path = model_dir / "results.json"
    if not path.is_file():
        return ["It has not been measured on the test split."]
    results = read_json(path)
    # A run of an early version lacks some; undefined figures are null.
    figures = {name: results[name] for name in _FIGURES if name in results}
    rows = [
        f"| {name} | {'undefined' if value is None else f'{value:.4f}'} |"
        for name, value in figures.items()
    ]
    by_length = [
        f"| {part['tokens']} | {part['examples']} | {part['accuracy']:.4f} |"
        for part in results["by_length"]
    ]
    return [
        f"| {results['examples']} reviews of the {results['split']} split | |",
        "|---|---|",
        *rows,
        "",
        "| tokens of a review | reviews | accuracy |",
        "|---|---|---|",
        *by_length,
    ]


def _read(config: TrainConfig) -> str:
    end = "first" if config.truncate == "head" else "last"
    return f"the {end} {config.sequence_length} words of a text"


def _settings(config: TrainConfig) -> list[str]:
    rows = [
        f"| {field.name} | {_shown(getattr(config, field.name))} |"
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default and field.name not in _PLACES
    ]
    return ["| setting | value |", "|---|---|", *rows] if rows else ["none."]


def _shown(value: object) -> object:
    """Shortens a path to its name; its folders concern only the machine's owner."""
    return _without_folder(value) if isinstance(value, str) and os.sep in value else value


def _without_folder(path: str) -> str:
    return Path(path).name or path
