"""The names of splits, in a column and in the names of files."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_log = logging.getLogger(__name__)

# Words in a split column or in the name of a file, and the split that they mean.
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "unsupervised": "unsupervised",
    "unlabelled": "unsupervised",
    "unlabeled": "unsupervised",
}
_SHOWN = 5  # files that a line names


@dataclasses.dataclass(frozen=True)
class FileSplit:
    """The split that a file's name gives, and why."""

    split: str
    reason: str


def split_of_file(path: Path, root: Path) -> FileSplit:
    """Finds the split that the name of a file, or of its folders below the root, gives.

    The first or the last word of a name counts: `val_d_isere.csv` and `reviews-test.csv` name a
    split, `hotels_of_val_thorens.csv` does not. A name whose first and last words name different
    splits gives none. If no name gives a split, the file is in the train split.
    """
    for name in reversed(path.relative_to(root).parts):
        words = [word for word in re.split(r"[\W\d_]+", name.lower()) if word]
        if name == path.name:
            words = words[: len(words) - _suffix_words(name)]
        ends = {SPLITS[word]: word for word in (words[-1:] + words[:1]) if word in SPLITS}
        if len(ends) == 1:
            split, word = ends.popitem()
            place = "name" if name == path.name else f"folder {name}"
            return FileSplit(split, f"its {place} has the word {word!r}")
        if ends:
            return FileSplit("train", f"its name has words of two splits: {', '.join(ends)}")
    return FileSplit("train", "its name has no word of a split")


def log_splits(splits: Mapping[Path, FileSplit]) -> None:
    """Logs which files are in which split and why, one line per split."""
    by_split: dict[str, list[str]] = {}
    for path, found in splits.items():
        by_split.setdefault(found.split, []).append(f"{path.name} ({found.reason})")
    for split, files in by_split.items():
        _log.info("split %s: %s", split, _listed(files))
    if set(by_split) != {"train"}:
        _log.info("--splits_from_names=false ignores the names of files and folders")


def _suffix_words(name: str) -> int:
    """Counts the words in a file's suffixes: 1 for a.csv, 2 for a.csv.gz."""
    parts = name.lower().split(".")
    return min(len(parts) - 1, 2 if parts[-1] in ("gz", "bz2", "xz") else 1)


def _listed(files: Sequence[str]) -> str:
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return ", ".join(files[:_SHOWN]) + more
