"""Writes events for TensorBoard."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins import projector
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.pr_curve import summary as pr_curve

from model.labels import predict_classes, to_probabilities
from pipeline.examples import Examples
from pipeline.vocabulary import FIRST_TOKEN_ID, OOV_TOKEN
from trainer.config import TrainConfig, changeable
from trainer.monitoring.confusion import draw_confusion_matrix, drawn_classes
from trainer.runtime.files import remove_unfinished, replacing, translate_disk_full

SPLITS = ("train", "validation")
_UNKNOWN = "▯"  # shown in place of an out-of-vocabulary token
_SETTINGS_TAG = "settings"
_PROJECTOR_TOKENS = 10_000  # more would be slow in a browser
# On the HParams page: the settings that are shown first, and the metrics in their order.
_SWEPT = ("learning_rate", "batch_size", "encoder", "units", "dropout")
_BEST = ("loss", "accuracy", "macro_f1")
_RESULTS = ("accuracy", "loss", "macro_f1", "train_seconds")  # from results.json
_TYPES = {str: 1, bool: 2, int: 3, float: 3}  # TensorBoard's DATA_TYPE_STRING, BOOL and FLOAT64


class Summaries:
    """Writes events to `model_dir/train` and `model_dir/validation`.

    All methods raise a RunError if the disk is full.

    Args:
        model_dir: The folder of the run.
        first_step: The first step that this process writes. Events from this step on are removed:
            an earlier process wrote them after its last checkpoint. The settings are removed too,
            because TensorBoard shows only the first event of each of their tags; and the results.
        token_names: The token of each id.
        label_names: The names of the labels.
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        first_step: int,
        token_names: Sequence[str],
        label_names: tuple[str, ...],
    ) -> None:
        self._token_names, self._label_names = token_names, label_names
        self._model_dir = model_dir
        self._folders = {split: model_dir / split for split in SPLITS}
        for folder in self._folders.values():
            _remove_outdated(first_step, folder)
        self._writers = {
            split: tf.summary.create_file_writer(str(folder))
            for split, folder in self._folders.items()
        }

    def write(self, split: str, group: str, values: dict[str, float], *, step: int) -> None:
        """Writes a scalar for each value; the values of an epoch have its last step.

        The group is the first component of the tags: `step`, `epoch` or `validation_best`.
        TensorBoard sorts groups by name and opens the first two.
        """
        with self._writing(split, step):
            for name, value in values.items():
                tf.summary.scalar(f"{group}/{name}", value)

    def write_settings(self, config: TrainConfig) -> None:
        """Writes the current settings, as text and for the HParams page."""
        settings = dataclasses.asdict(config)
        rows = [f"| {name} | {value} |" for name, value in settings.items()]
        table = "\n".join(["| setting | value |", "|---|---|", *rows])
        # Settings such as folders are left out, because runs are not compared by them.
        left_out = set(changeable()) - {"epochs", "max_steps"}
        compared = {name: value for name, value in settings.items() if name not in left_out}
        with self._writing("validation", step=0):
            tf.summary.text(_SETTINGS_TAG, table)
            _write_experiment(compared)
            # The page cuts long names, and merges runs of the same name.
            hparams.hparams(compared, trial_id="/".join(self._model_dir.absolute().parts[-2:]))
        self.flush()

    def write_graph(self, graph: tf.Graph) -> None:
        """Writes the graph of the model, at the start of a run."""
        with self._writing("train", step=0):
            tf.summary.graph(graph)

    def write_predictions(
        self, examples: Examples, logits: np.ndarray, errors: np.ndarray, *, step: int
    ) -> None:
        """Writes precision-recall curves, confusion matrix and errors, if all logits are finite.

        There is a curve for the second of two labels, or for each of the 20 most frequent labels.

        Args:
            examples: The validation split.
            logits: Its calibrated logits, <float32>[N, L].
            errors: <int64>[M], the positions of the misclassified examples to show.
            step: The last step of the epoch.
        """
        if not np.isfinite(logits).all():
            return
        labels, tag = examples.labels, "epoch/precision_recall"
        probabilities = to_probabilities(logits).numpy()
        tags = {1: tag}
        if len(self._label_names) > 2:
            tags = {
                number: f"{tag}/{self._label_names[number]}" for number in drawn_classes(labels)
            }
        curves = [pr_curve.pb(t, labels == n, probabilities[:, n]) for n, t in tags.items()]
        matrix = draw_confusion_matrix(labels, predict_classes(logits), self._label_names)
        with self._writing("validation", step):
            for curve in curves:
                tf.summary.experimental.write_raw_pb(curve.SerializeToString())
            tf.summary.image("epoch/confusion", matrix)
            errors_text = self._format_errors(examples[errors], probabilities[errors])
            tf.summary.text("epoch/mistakes", errors_text)

    def _format_errors(self, examples: Examples, probabilities: np.ndarray) -> str:
        """Formats misclassified examples as Markdown, with the tokens that the model reads."""
        paragraphs = [f"{_UNKNOWN} is an out-of-vocabulary token."]
        is_binary = len(self._label_names) == 2
        for position, by_class in enumerate(probabilities):
            names = [self._token_names[token_id] for token_id in examples.row(position)]
            text = " ".join(_UNKNOWN if name == OOV_TOKEN else name for name in names)
            label = self._label_names[examples.labels[position]]
            shown = 1 if is_binary else int(by_class.argmax())
            name = self._label_names[shown]
            paragraphs.append(f"**{label}**, probability of {name} {by_class[shown]:.4f}\n\n{text}")
        return "\n\n".join(paragraphs)

    def write_histograms(
        self, group: str, samples: Iterable[tuple[str, tf.Tensor]], *, step: int
    ) -> None:
        """Writes a histogram for each named sample <float32>[N]."""
        with self._writing("train", step):
            for name, sample in samples:
                tf.summary.histogram(f"{group}/{name}", sample)

    def write_embeddings(self, embeddings: Mapping[str, np.ndarray]) -> None:
        """Writes the embeddings <float32>[V, E] by name, of the most frequent tokens."""
        if not embeddings:
            return
        end = FIRST_TOKEN_ID + _PROJECTOR_TOKENS
        folder, tokens = self._folders["validation"], self._token_names[FIRST_TOKEN_ID:end]
        with replacing(folder / "words.tsv") as new:
            new.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
        config = projector.ProjectorConfig()
        for name, matrix in embeddings.items():
            rows = np.asarray(matrix[FIRST_TOKEN_ID : FIRST_TOKEN_ID + len(tokens)], np.float32)
            with replacing(folder / f"{name}.bin") as new:
                new.write_bytes(rows.tobytes())
            config.embeddings.add(
                tensor_name=name,
                tensor_path=f"{name}.bin",
                tensor_shape=rows.shape,
                metadata_path="words.tsv",
            )
        # projector.visualize_embeddings would follow a link, and would not write atomically.
        with replacing(folder / "projector_config.pbtxt") as new:
            new.write_text(str(config), encoding="utf-8")

    def flush(self) -> None:
        """Writes buffered events to disk."""
        for split, writer in self._writers.items():
            with self._translate_errors(split):
                writer.flush()

    def close(self) -> None:
        """Closes the event files."""
        for split, writer in self._writers.items():
            with self._translate_errors(split):
                writer.close()

    @contextlib.contextmanager
    def _writing(self, split: str, step: int) -> Iterator[None]:
        """Makes the event file of a split the default, and translates its errors."""
        with self._translate_errors(split), self._writers[split].as_default(step=step):
            yield

    def _translate_errors(self, split: str) -> contextlib.AbstractContextManager[None]:
        return translate_disk_full("events for TensorBoard", self._folders[split])


def _write_experiment(settings: Mapping[str, object]) -> None:
    """Writes which settings and metrics the HParams page shows, and which of them first."""
    infos = [
        api_pb2.HParamInfo(name=name, type=_TYPES[type(value)], differs=name in _SWEPT)
        for name, value in settings.items()
    ]  # TensorBoard sorts by `differs`, then by name
    tags = [f"validation_best/{name}" for name in _BEST] + [f"test/{name}" for name in _RESULTS]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in tags]
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
    summary = hparams.hparams_config_pb([], [])
    data = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    summary.value[0].metadata.CopyFrom(metadata.create_summary_metadata(data))
    tf.summary.experimental.write_raw_pb(summary.SerializeToString())


def write_results(model_dir: Path, results: Mapping[str, Any]) -> None:
    """Writes metrics of results.json for the HParams page; a RunError if the disk is full."""
    folder = model_dir / "validation"
    writer = tf.summary.create_file_writer(str(folder))
    with translate_disk_full("events for TensorBoard", folder), writer.as_default(results["steps"]):
        for name in _RESULTS:
            if results[name] is not None:  # undefined
                tf.summary.scalar(f"test/{name}", results[name])


def _remove_outdated(first_step: int, folder: Path) -> None:
    """Removes settings, results and events from `first_step` on, which this process writes again.

    A SessionLog.START event would be simpler, but TensorBoard's EventAccumulator applies it only to
    old kinds of events.
    """
    remove_unfinished(folder)
    for path in sorted(folder.glob("*tfevents*")):
        records, is_complete = [], True
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                records.append(record)
        except tf.errors.DataLossError:  # a process was killed while writing the last record
            is_complete = False
        kept = [record for record in records if _is_kept(Event.FromString(record), first_step)]
        if not is_complete or len(kept) < len(records):
            with replacing(path) as new, tf.io.TFRecordWriter(str(new)) as writer:
                for record in kept:
                    writer.write(record)


def _is_kept(event: Event, first_step: int) -> bool:
    """Returns whether an event is earlier than `first_step`, and not of settings or results."""
    rewritten = (_SETTINGS_TAG, "_hparams_/", "test/")
    tags = [value.tag for value in event.summary.value]
    return event.step < first_step and not any(tag.startswith(rewritten) for tag in tags)
