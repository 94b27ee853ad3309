"""A data set of TensorFlow Datasets (TFDS), which is opened by its name."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from pipeline import DATASETS
from pipeline.labels import MAX_LABELS, choose_labels
from pipeline.named_dataset.columns import find_columns, has_names, label_strings
from pipeline.named_dataset.preparation import open_builder
from pipeline.named_dataset.splits import find_splits, positions_of
from pipeline.reading import READ_BATCH, disable_autotune, translate_read_errors


@dataclasses.dataclass(frozen=True)
class NamedDataset:
    """A prepared TFDS data set: labelled texts in splits.

    `sources` has the TFDS split or slice of each split. For the other attributes, see
    `open_dataset`.
    """

    name: str
    label_names: tuple[str, ...]  # in the order of their numbers
    builder: tfds.core.DatasetBuilder
    text_columns: tuple[str, ...]
    label_column: str
    sources: Mapping[str, str]
    label_map: Mapping[str, str]

    @property
    def identity(self) -> dict[str, object]:
        """Returns a cache key of JSON types: version, files, columns, splits and labels."""
        # TFDS' own path type, since --data_dir may be an address such as gs://bucket/folder.
        files = [(path.name, path.stat()) for path in sorted(self.builder.data_path.iterdir())]
        key: dict[str, object] = {
            "name": self.builder.info.full_name,
            "files": [[name, stat.length, stat.mtime] for name, stat in files],
            "labels": self.label_names,
        }
        if (self.text_columns, self.label_column) != (("text",), "label"):
            key["columns"] = [*self.text_columns, self.label_column]
        if renamed := {k: source for k, source in self.sources.items() if k != source}:
            key["sources"] = renamed
        return key | ({"label_map": dict(self.label_map)} if self.label_map else {})

    @property
    def splits(self) -> set[str]:
        """Returns the names of the splits that are not to be taken from `train`."""
        return set(self.sources)

    def size(self, split: str) -> int:
        """Returns the number of examples in a split, also of those without a label."""
        return self.builder.info.splits[self.sources[split]].num_examples

    def read(self, split: str) -> tf.data.Dataset:
        """Reads `train`, `validation`, `test` or `unsupervised` in the order of its files.

        Returns:
            Batches of (texts <string>[N], labels <int64>[N]), N ≤ READ_BATCH. The label is -1 if it
            is missing or, for a label that is no ClassLabel, if the train split does not have it.
        """
        number = self._numbering()

        @tf.autograph.experimental.do_not_convert  # AutoGraph would change nothing
        def to_example(batch: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            texts = tf.strings.join([batch[name] for name in self.text_columns], " ")
            return texts, number(batch[self.label_column])

        columns = (*self.text_columns, self.label_column)
        return _read_features(self.builder, self.sources[split], columns).map(to_example)

    def has_labels(self, source: str) -> bool:
        """Returns whether a TFDS split or slice has an example with a label; reads no texts."""
        number = self._numbering()
        batches = _read_features(self.builder, source, [self.label_column])
        return any((number(batch[self.label_column]).numpy() >= 0).any() for batch in batches)

    def texts_at(self, split: str, positions: np.ndarray) -> list[bytes]:
        """Returns the original texts at positions <int64>[N] of a split; reads the whole split."""
        wanted = set(positions.tolist())
        batches = (texts for texts, _ in self.read(split).as_numpy_iterator())
        texts = enumerate(itertools.chain.from_iterable(batches))
        found = {position: text for position, text in texts if position in wanted}
        return [found[position] for position in positions.tolist()]

    def _numbering(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Returns a function from stored labels [N] to their numbers <int64>[N]; -1 for none."""
        numbers = {name: number for number, name in enumerate(self.label_names)}
        numbers |= {old: numbers[new] for old, new in self.label_map.items()}
        feature = self.builder.info.features[self.label_column]
        if has_names(feature):
            # Label -1, as in `unsupervised`, indexes the last element and stays -1.
            order = tf.constant([*map(numbers.__getitem__, feature.names), -1], tf.int64)
            return lambda labels: tf.gather(order, labels % len(order))
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                [*numbers], [*numbers.values()], value_dtype=tf.int64
            ),
            -1,
        )
        return lambda labels: table.lookup(label_strings(labels))


def _read_features(
    builder: tfds.core.DatasetBuilder, source: str, names: Sequence[str]
) -> tf.data.Dataset:
    """Reads features of a TFDS split or slice: batches of {name: [N]}, N ≤ READ_BATCH."""
    decoders = tfds.decode.PartialDecoding(dict.fromkeys(names, True))
    dataset = builder.as_dataset(split=source, decoders=decoders, shuffle_files=False)
    return dataset.batch(READ_BATCH)


def open_dataset(
    name: str,
    *,
    data_dir: str | None,
    download: bool,
    text_columns: Sequence[str] = ("text",),
    label_column: str = "label",
    splits: Mapping[str, str] | None = None,
    label_map: Mapping[str, str] | None = None,
    positive_label: str = "",
    label_names: Sequence[str] | None = None,
) -> NamedDataset:
    """Opens a TFDS data set, and prepares it first if necessary.

    Args:
        name: The name in TFDS, such as `glue/sst2` or `imdb_reviews/plain_text:1.0.0`.
        data_dir: The TFDS data folder; None for TFDS' default, `~/tensorflow_datasets`.
        download: Whether a missing data set may be downloaded and prepared.
        text_columns: The features that make up the text; see `find_columns`.
        label_column: The feature that is the label; see `find_columns`.
        splits: The TFDS split or slice of `train`, `validation` and `test`; see `find_splits`.
        label_map: New names of labels; see `choose_labels`.
        positive_label: The label to put last; see `choose_labels`.
        label_names: The labels of an existing run; see `choose_labels`.

    Raises:
        RunError: The data set cannot be downloaded, prepared or read; the message says what to do.
        UserError: There is no such data set, or its features, labels or splits cannot be used, or
            its labels differ from `label_names`.
    """
    builder = open_builder(name, data_dir=data_dir, download=download)
    texts, label = find_columns(builder, text_columns, label_column)
    splits, label_map = splits or {}, label_map or {}
    with translate_read_errors(name, builder.data_dir):
        stored = _stored_labels(builder, label, splits.get("train") or "train")
        names = choose_labels(
            name,
            stored,
            label_map,
            # The authors of a data set choose an order with more meaning than the alphabetical one.
            declared=stored if has_names(builder.info.features[label]) else (),
            positive=positive_label,
            expected=label_names,
            question=f"is --label_column={label} right?",
        )
        dataset = NamedDataset(name, names, builder, texts, label, {}, label_map)
        # The test splits of DATASETS have labels. Nothing of them is read before the evaluation.
        is_labelled = dataset.has_labels if name not in DATASETS else lambda _: True
        sources = find_splits(builder, splits, is_labelled)
    return dataclasses.replace(dataset, sources=sources)


def _stored_labels(builder: tfds.core.DatasetBuilder, column: str, train: str) -> Sequence[str]:
    """Returns the names of a ClassLabel; otherwise the values in the train split."""
    feature = builder.info.features[column]
    if has_names(feature):
        return feature.names
    positions_of(builder, "train", train)  # checks that the split exists
    found: set[str] = set()
    for batch in disable_autotune(_read_features(builder, train, [column])):
        found |= {value.decode() for value in label_strings(batch[column]).numpy().tolist()} - {""}
        if len(found) > MAX_LABELS:
            break
    return sorted(found)
