"""Loads the best model of a run for prediction, explanation and evaluation."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline import vocabulary
from pipeline.corpus import Corpus
from pipeline.errors import RunError, UserError, quote
from pipeline.examples import Examples, unlabelled_examples
from pipeline.file_dataset.sources import to_tuple
from pipeline.labels import label_text
from pipeline.text.tokenizer import Tokenizer
from trainer.artifacts.checkpoints import restore_best
from trainer.artifacts.pretrained import PretrainedEncoder
from trainer.artifacts.run_record import RunRecord
from trainer.building import build_model
from trainer.config import TrainConfig
from trainer.data import check_same_data, make_tokenizer
from trainer.evaluation import report
from trainer.evaluation.metrics import (
    compute_class_metrics,
    compute_metrics,
    errors_by_confidence,
)
from trainer.evaluation.scoring import Evaluator
from trainer.runtime import devices

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The contributions of the tokens of a text to the log-odds of a label against another.

    The log-odds are log(probability of `label` / probability of `against`). The baseline and the
    contributions add up to them.

    Attributes:
        label: The label that is explained.
        against: The other of two labels; of more, the most probable other label.
        tokens: The tokens that the model reads; of a pretrained encoder, the words.
        contributions: The contribution of each token, <float32>[len(tokens)].
        baseline: The log-odds without any token.
    """

    label: str
    against: str
    tokens: list[str]
    contributions: np.ndarray
    baseline: float


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """The best model of a finished or unfinished run.

    Attributes:
        config: The settings of the run.
        label_names: The names of the K labels.
        tokenizer: Converts texts to the token ids of the model.
        evaluator: Computes logits and probabilities; `evaluator.model` has the best weights.
        best_epoch: The epoch of these weights, counted from 1.
        best_value: Their validation loss; with another --best_metric, the value of that.
        data: The fingerprints of the training data; empty in a run of an early version.
    """

    config: TrainConfig
    label_names: tuple[str, ...]
    tokenizer: Tokenizer
    evaluator: Evaluator
    best_epoch: int
    best_value: float
    data: dict[str, str]

    def predict(self, texts: Iterable[bytes | str]) -> np.ndarray:
        """Returns the probabilities of the K labels, <float32>[len(texts), K], in order.

        The texts are strings or UTF-8 bytes. Invalid UTF-8 is allowed.

        Raises:
            TypeError: `texts` is not a list, or contains a value that is not a string.
        """
        return self.evaluator.predict(self._examples(texts))

    def classify(self, texts: Iterable[bytes | str]) -> list[str]:
        """Returns the most probable label of each text; see `predict`."""
        return [self.label_names[number] for number in self.predict(texts).argmax(axis=1)]

    def _examples(self, texts: Iterable[bytes | str]) -> Examples:
        encoded = tf.constant([_to_bytes(text) for text in to_tuple(texts, "texts")], tf.string)
        return unlabelled_examples(self.tokenizer(encoded))

    def explain(self, text: bytes | str, label: str | None = None) -> Explanation:
        """Computes the contribution of each token of a text to the log-odds of a label.

        Args:
            text: A string or UTF-8 bytes. Invalid UTF-8 is allowed.
            label: The label to explain; None: the second of two labels, or the predicted one of
                more.

        Raises:
            TypeError: `text` is neither a string nor bytes.
            UserError: There is no such label.
        """
        text = _to_bytes(text)
        if label is not None and label not in self.label_names:
            raise self._unknown_label(label)
        order = np.argsort(-self.predict([text])[0], kind="stable").tolist()
        if label is not None:
            number = self.label_names.index(label)
        else:
            number = 1 if len(order) == 2 else order[0]
        other = next(place for place in order if place != number)
        direction = np.zeros(len(order), np.float32)
        direction[[number, other]] = 1, -1
        if len(order) == 2:
            direction = direction[1:]
        token_ids = self.tokenizer(tf.constant([text]))[0]
        by_token, baseline = self.evaluator.contributions(token_ids, direction)
        words, positions = self.tokenizer.words_of(text)
        contributions = np.zeros(len(words), np.float32)
        np.add.at(contributions, positions, by_token.numpy())
        return Explanation(
            *(self.label_names[number], self.label_names[other]),
            words,
            contributions,
            float(baseline),
        )

    def evaluate(self, texts: Iterable[bytes | str], labels: Iterable[object]) -> dict[str, object]:
        """Evaluates the model on labelled texts in memory.

        Args:
            texts: Strings or UTF-8 bytes.
            labels: The label of each text, whose name is that of a label of the run; 4.0 is `4`. A
                label that `label_map` renames is renamed first.

        Returns:
            As `evaluate_split`, without `split`.

        Raises:
            UserError: There is not one label per text, or a label is not one of the run.
            TypeError: As `predict`.
        """
        examples = self._examples(texts)
        numbers = np.array([self._number(name) for name in to_tuple(labels, "labels")], np.int32)
        if len(examples) != len(numbers) or not len(numbers):
            count = len(examples)
            raise UserError(f"there are {count} texts and {len(numbers)} labels; give one each")
        examples = dataclasses.replace(examples, labels=numbers)
        logits = self.evaluator.logits(examples, description="scoring")
        return {"dataset": "in memory"} | self._compute_metrics(examples, logits)

    def evaluate_split(
        self,
        corpus: Corpus,
        split: str,
        *,
        report_dir: Path | None = None,
        is_other_data: bool = False,
    ) -> dict[str, object]:
        """Evaluates the model on one split of a corpus.

        Args:
            corpus: The corpus, opened with `label_names=run.label_names`.
            split: `train`, `validation` or `test`.
            is_other_data: Whether the corpus is not the one that the run was trained on; if false,
                this is checked.
            report_dir: The folder for errors.csv and curves.png; None: no report. If the report
                cannot be written, a warning is logged.

        Returns:
            dataset, split, examples, and the metrics of `compute_metrics` and
            `compute_class_metrics`. `loss` is computed from the calibrated logits. The
            temperature of an encoder that was trained was fitted on `validation`, so the
            calibration error there is cross-fitted. An undefined metric, such as the AUC of a split
            with one class, is None.

        Raises:
            UserError: The labels or the data are not those of the run, or report_dir contains other
                files with the names of a report's files.
            Interrupted: A signal arrived.
        """
        if corpus.dataset.label_names != self.label_names:
            raise UserError(
                f"the labels of {corpus.dataset.name} are {corpus.dataset.label_names}, but those "
                f"of the run are {self.label_names}; open the data with label_names=run.label_names"
            )
        if not is_other_data:
            check_same_data(self.data, corpus, [split], run="the run")
        if report_dir:
            report.check_replaceable(report_dir)
        examples = corpus.examples(split, self.tokenizer)
        logits = self.evaluator.logits(examples, description="scoring")
        if report_dir:
            self._write_report(corpus, split, logits, examples.labels, report_dir)
        is_fitted = split == "validation" and not is_other_data and self.config.has_steps
        metrics = self._compute_metrics(examples, logits, is_fitted=is_fitted)
        return {"dataset": corpus.dataset.name, "split": split} | metrics

    def _compute_metrics(
        self, examples: Examples, logits: np.ndarray, *, is_fitted: bool = False
    ) -> dict[str, object]:
        metrics = compute_metrics(examples.labels, logits, is_fitted=is_fitted)
        return (
            {"examples": len(examples)}
            | {name: None if math.isnan(value) else value for name, value in metrics.items()}
            | compute_class_metrics(logits, examples.labels, examples.lengths, self.label_names)
        )

    def _number(self, label: object) -> int:
        try:
            name = label_text(label) or ""
        except ValueError as error:
            raise UserError(f"{error} is not a label") from error
        name = self.config.label_mapping.get(name, name)
        if name not in self.label_names:
            raise self._unknown_label(name)
        return self.label_names.index(name)

    def _unknown_label(self, name: str | None) -> UserError:
        known = ", ".join(map(quote, self.label_names))
        return UserError(f"{quote(name)} is not a label of the run; choose one of {known}")

    def _write_report(
        self, corpus: Corpus, split: str, logits: np.ndarray, labels: np.ndarray, folder: Path
    ) -> None:
        chosen = errors_by_confidence(logits, labels)[: report.MAX_ERRORS]
        texts = corpus.original_texts(split, chosen)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            report.write_errors(
                folder / report.ERRORS, texts, logits[chosen], labels[chosen], self.label_names
            )
            report.draw_curves(folder / report.CURVES, logits, labels, self.label_names)
        except (OSError, RunError) as error:  # the metrics are still valid
            reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
            _log.warning("the report could not be written, but the metrics are valid: %s", reason)


def _to_bytes(text: object) -> bytes:
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")  # encodes unpaired surrogates too
    raise TypeError(f"a text is a string or bytes, not {type(text).__name__}")


def load(
    model_dir: Path | str, *, precision: str | None = None, branches: int | None = None
) -> TrainedRun:
    """Loads the best model of a run. Does not write to the folder.

    Args:
        model_dir: The folder of the run.
        precision: The Keras dtype policy; None: that of the run.
        branches: The number of branches into which the model splits a batch; None: the default of
            this machine. It determines TensorFlow's threads, if they are not initialized yet.

    Raises:
        UserError: The folder contains no trained run, or files of different runs.
        RunError: A file in the folder is damaged.
    """
    model_dir = Path(model_dir)
    record = read_record(model_dir)
    config = record.config
    devices.set_threads(config.batch_size, branches, warn=False)  # logits differ by 1e-6 at most
    if precision is None:
        devices.warn_of_precision(config.precision, record.precision, model_dir)
        precision = record.precision
    pretrained = PretrainedEncoder.read(model_dir) if config.pretrained else None
    tokens = load_vocabulary(model_dir, record)
    tokenizer = make_tokenizer(tokens, config, pretrained.tokenizer if pretrained else None)
    model = build_model(
        *(config, tokenizer.vocabulary_size, len(record.label_names), precision, branches),
        pretrained.architecture if pretrained else None,
    )
    best_epoch, value = restore_best(model_dir, model, fingerprint=record.fingerprint)
    return TrainedRun(
        config,
        label_names=record.label_names,
        tokenizer=tokenizer,
        evaluator=Evaluator(model),
        best_epoch=best_epoch,
        best_value=abs(value),
        data=record.data,
    )


def read_record(model_dir: Path) -> RunRecord:
    """Reads config.json of a run.

    Raises:
        UserError: The folder contains no run.
        RunError: config.json is damaged.
    """
    record = RunRecord.read(model_dir)
    if record is None:
        raise UserError(
            f"{model_dir} contains no run (no config.json); "
            f"train one: python -m scripts.train --model_dir={model_dir}"
        )
    return record


def load_vocabulary(model_dir: Path, record: RunRecord) -> list[str]:
    """Loads the vocabulary of a run.

    Raises:
        UserError: vocabulary.txt belongs to another run.
        RunError: vocabulary.txt is damaged.
    """
    path = model_dir / "vocabulary.txt"
    tokens = vocabulary.load(path, is_pretrained=bool(record.config.pretrained))
    found = vocabulary.fingerprint(tokens)
    if found != record.fingerprint:
        raise UserError(
            f"{path} is not the vocabulary of this run: its SHA-256 is {found[:12]}…, but "
            f"config.json has {record.fingerprint[:12]}…; restore the right file"
        )
    return tokens
