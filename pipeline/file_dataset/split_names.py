"""Finds the split of a file by its name, and lists the words that name splits."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.files.decoding import COMPRESSED

_log = logging.getLogger(__name__)

# The split that each word names, in a split column or in the name of a file.
SPLIT_WORDS = {
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
_SHOWN = 5  # files that a log line names


def split_of_file(path: Path, root: Path) -> str:
    """Finds the split of a file in its name, or in the name of a folder between it and `root`.

    Only the first and the last word of a name count: `test_2.csv` and `reviews-val.csv` name a
    split, `hotels_of_val_thorens.csv` does not. The file is in the train split if these two words
    name different splits, or if no name has a word for a split.
    """
    file = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    folders = [folder.name for folder in path.relative_to(root).parents]
    for name in (file.stem, *folders):
        words = [word for word in re.split(r"[\W\d_]+", name.lower()) if word]
        ends = {SPLIT_WORDS[word] for word in (words[-1:] + words[:1]) if word in SPLIT_WORDS}
        if ends:
            return ends.pop() if len(ends) == 1 else "train"
    return "train"


def log_file_splits(splits: Mapping[Path, str]) -> None:
    """Logs the files of each split, one line per split."""
    by_split: dict[str, list[str]] = {}
    for path, split in splits.items():
        by_split.setdefault(split, []).append(f"{path.parent.name}/{path.name}")
    for split, files in by_split.items():
        more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
        _log.info("split %s: %s%s", split, ", ".join(files[:_SHOWN]), more)
    if set(by_split) != {"train"}:
        _log.info("to ignore the names of files and folders: --splits_from_names=false")
