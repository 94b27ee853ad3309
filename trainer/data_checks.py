"""Checks of the data and of settings that depend on its size, before training starts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from pipeline.errors import Mistake, shown
from trainer.config import TrainConfig
from trainer.data import Data

_log = logging.getLogger(__name__)

_FEWEST_VALIDATION = 2
_FEW = 10  # examples of a class in train; fewer cause a warning
_SMALL_SHARE = 0.01  # of train; a class with less causes a warning
# What to type if a cut split lacks examples.
_FLAGS = {"validation": "--validation_fraction", "test": "--test_fraction"}


def check_data(data: Data, config: TrainConfig) -> None:
    """Logs what is found in the data, and checks that all splits can be used.

    Raises:
        Mistake: A split has too few examples, or lacks a class.
    """
    names = data.dataset.label_names
    order = ", ".join(f"{number} = {shown(name)[1:-1]}" for number, name in enumerate(names))
    _log.info("labels: %s (positive)", order)
    data.log_findings()
    counts = data.class_counts()
    if config.objective == "sentiment":
        _check_classes(data, counts, config)
    _check_sizes(data, counts, config)
    if config.objective == "sentiment":
        _warn_imbalance(names, counts["train"], config)


def check_same_data(
    recorded: Mapping[str, str], data: Data, splits: Sequence[str], *, what: str
) -> None:
    """Checks that data is the same as what a run was trained on.

    Args:
        recorded: The run's fingerprints; parts without one are not checked.
        data: The data.
        splits: The splits that are read.
        what: What the message calls the run.

    Raises:
        Mistake: The data has changed.
    """
    if not recorded:
        return
    found = data.fingerprints(splits)
    changed = [part for part in found if part in recorded and found[part] != recorded[part]]
    if changed:
        raise Mistake(
            f"{what} was trained on other data of the name {data.dataset.name}: texts, labels or "
            f"splits in {' and '.join(changed)} have changed since; put the data back, or train on "
            "the new data in another --model_dir"
        )


def check_steps(config: TrainConfig, steps: int) -> None:
    """Checks settings against the number of steps of the whole run.

    Raises:
        Mistake: The learning rate would never be reached, or the weights never changed.
    """
    for name in ("warmup_steps", "gradient_accumulation"):
        value = getattr(config, name)
        if value > steps:
            raise Mistake(
                f"--{name}={value} is longer than the whole run of {steps} steps; give at most "
                f"--{name}={max(1, steps // 10)}, or more --epochs"
            )


def _check_sizes(data: Data, counts: dict[str, list[int]], config: TrainConfig) -> None:
    sizes = {split: sum(count) for split, count in counts.items()}
    sizes.setdefault("test", data.dataset.size("test"))
    fewest = {"train": 1, "validation": _FEWEST_VALIDATION, "test": 1}
    for split in ("validation", "test", "train"):
        if sizes[split] < fewest[split]:
            raise Mistake(
                f"{config.dataset} leaves {_count(sizes[split])} for the {split} split, of "
                f"{_count(sum(sizes.values()))}; {_advice(split, data, config)}"
            )


def _check_classes(data: Data, counts: dict[str, list[int]], config: TrainConfig) -> None:
    """Checks that train and each split that is cut have all classes."""
    names = data.dataset.label_names
    for split, of_each in counts.items():
        for name, count in zip(names, of_each, strict=True):
            if count:
                continue
            if split != "train" and split not in data.cut:
                _log.warning("the %s split has no example with label %s", split, shown(name))
                continue
            raise Mistake(
                f"{config.dataset} has too few examples with label {shown(name)}: "
                f"{_listed(names, counts)}; each split needs one of each label, so give at least "
                f"{1 + len(data.cut)} different texts of each, or {_advice(split, data, config)}"
            )


def _advice(split: str, data: Data, config: TrainConfig) -> str:
    """Says what to type if a split has too few examples."""
    if split == "train":
        flags = [_FLAGS[cut] for cut in sorted(data.cut)]
        return f"a smaller {' or '.join(flags)}" if flags else "give more of them for training"
    if split not in data.cut:
        return f"give more of them for {split}"
    flag = _FLAGS[split]
    return (
        f"give another {flag} than {getattr(config, flag.removeprefix('--'))}, more examples, or "
        f"a file for {split}"
    )


def _warn_imbalance(names: Sequence[str], counts: Sequence[int], config: TrainConfig) -> None:
    total = sum(counts)
    for name, count in zip(names, counts, strict=True):
        if count < _FEW or count < _SMALL_SHARE * total:
            _log.warning(
                "%s: only %d of %d training examples (%.1f%%) have the label %s: accuracy says "
                "little about them, look at macro_f1 and recall",
                config.dataset,
                count,
                total,
                100 * count / total,
                shown(name),
            )


def _listed(names: Sequence[str], counts: dict[str, list[int]]) -> str:
    return ", ".join(
        f"{split} has "
        + " and ".join(f"{n} {shown(name)}" for name, n in zip(names, of_each, strict=True))
        for split, of_each in counts.items()
    )


def _count(number: int) -> str:
    return f"{number} example{'' if number == 1 else 's'}"
