"""Decides which TFDS splits are the train, validation and test splits of a run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import tensorflow_datasets as tfds

from pipeline.errors import UserError


def find_splits(
    builder: tfds.core.DatasetBuilder,
    requested: Mapping[str, str],
    is_labelled: Callable[[str], bool],
) -> dict[str, str]:
    """Returns the TFDS split or slice that serves as each split of a run.

    A `validation` or `test` that is not in the result is to be taken from `train`. If the data set
    has no test split with labels, its validation split becomes the test split.

    `requested` may have the TFDS split of `train`, `validation` and `test`; an empty one is to be
    found. `is_labelled` returns whether a TFDS split has labels.

    Raises:
        UserError: There is no such split, or no train split, or a requested split has no labels.
    """
    used = {s: positions_of(builder, s, spec) for s, spec in requested.items() if spec}

    def find(*names: str) -> str:
        """Returns the first of these splits that exists and has no example of a requested one."""
        found = {n: positions_of(builder, n, n) for n in names if n in builder.info.splits}
        is_free = (
            n for n, own in found.items() if not any(_overlap(own, u) for u in used.values())
        )
        return next(is_free, "")

    validation = find("validation", "dev", "valid")
    sources = {"train": "train", "validation": validation, "test": find("test")}
    sources |= {split: requested[split] for split in used}
    for split in used:
        if not is_labelled(sources[split]):
            raise UserError(
                f"the split {sources[split]} of {builder.name} has no labels; name another: "
                f"--{split}_split=SPLIT"
            )
    if not sources["test"] or not is_labelled(sources["test"]):
        sources["test"] = validation
        if "validation" not in used:
            sources["validation"] = ""
    positions_of(builder, "train", sources["train"])  # checks that the split exists
    sources["unsupervised"] = find("unsupervised")
    return {split: spec for split, spec in sources.items() if spec}


_Positions = list[tuple[str, int, int]]  # the name of a TFDS split, start, stop


def positions_of(builder: tfds.core.DatasetBuilder, split: str, spec: str) -> _Positions:
    """Returns the positions of the examples that a TFDS split such as `train[:80%]` has."""
    available = builder.info.splits
    try:
        parts = tfds.core.ReadInstruction.from_spec(spec).to_absolute(available)
    except (ValueError, NotImplementedError) as error:
        raise UserError(
            f"--{split}_split={spec} is not a split of {builder.name}, which has "
            f"{', '.join(available)}; name one, or a part such as --{split}_split="
            f"'{next(iter(available), 'train')}[:80%]'"
        ) from error
    return [
        (name, part.from_ or 0, available[name].num_examples if part.to is None else part.to)
        for part in parts
        for name in [part.splitname]
    ]


def _overlap(ones: _Positions, others: _Positions) -> bool:
    """Returns whether two lists of positions have an example in common."""
    return any(
        one[0] == other[0] and max(one[1], other[1]) < min(one[2], other[2])
        for one, other in itertools.product(ones, others)
    )
