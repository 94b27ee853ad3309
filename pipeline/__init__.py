"""From texts to batches of token ids: data sets, vocabulary, cached splits, batches.

Read the modules in this order: `datasets`, `text`, `vocabulary`, `corpus`, `batches`. This package
imports neither `model` nor `trainer`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.file_dataset.sources import ArrayData

# The data sets that --help lists, and the module whose import registers the TFDS builder (None: the
# builder is in tensorflow-datasets). It is here so that --help need not import TensorFlow.
DATASETS: dict[str, str | None] = {
    "imdb_reviews": None,
    "imdb_offline": "pipeline.imdb_offline.imdb_offline_dataset_builder",
}


def from_arrays(
    texts: Iterable[object],
    labels: Iterable[object],
    *,
    splits: Iterable[object] | None = None,
    name: str = "in memory",
) -> ArrayData:
    """Returns data in memory, which `trainer.data.open_corpus` opens, and then checks each row.

    Messages name the position of a row, counted from 0.

    Args:
        texts: Strings or UTF-8 bytes: a list, a NumPy array or a column of pandas.
        labels: The label of each text: a string, a bool or a whole number.
        splits: The split of each text: train, validation, test, or unsupervised, where the label is
            ignored; None: all train.
        name: The name of the data in messages.

    Raises:
        UserError: There is not one label, and one split, per text.
        TypeError: An argument is not a list.
    """
    from pipeline.file_dataset.sources import ArrayData, to_tuple

    texts = to_tuple(texts, "texts")
    splits = ("train",) * len(texts) if splits is None else to_tuple(splits, "splits")
    return ArrayData(texts, to_tuple(labels, "labels"), splits, name)
