"""A run's best model, from its folder: to predict, to explain, to be measured."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from model.classifier import SentimentClassifier
from model.language import LanguageModel
from pipeline import vocabulary
from pipeline.errors import Mistake
from pipeline.reviews import in_memory
from pipeline.vocabulary import Vectorizer
from trainer import devices, report
from trainer.building import build_model
from trainer.checkpoints import restore_best
from trainer.config import TrainConfig
from trainer.data import Data, make_vectorizer
from trainer.evaluator import Evaluator, measured, measured_where_fitted
from trainer.files import full_disk_told
from trainer.records import RunRecord
from trainer.stopping import StopSignals

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a probability is made of, in log-odds, of which that of the second label is the sigmoid.

    Attributes:
        words: The standardized words that were read.
        weights: <float32>[len(words)], what each added.
        baseline: What there was without them; with the weights it adds up to the log-odds.
    """

    words: list[str]
    weights: np.ndarray
    baseline: float


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """What a finished or unfinished run has to offer: its best model and all that goes with it.

    Attributes:
        config: The settings.
        label_names: What labels 0 and 1 are called.
        vectorizer: Turns texts into the model's token ids.
        evaluator: Measures its model, which has its best weights.
        best_epoch: The epoch that those are of.
        validation_loss: Their loss on the validation split.
    """

    config: TrainConfig
    label_names: tuple[str, str]
    vectorizer: Vectorizer
    evaluator: Evaluator
    best_epoch: int
    validation_loss: float

    def predict(self, texts: Sequence[bytes]) -> np.ndarray:
        """Scores texts.

        Args:
            texts: UTF-8; any bytes are allowed.

        Returns:
            Probabilities of the second label, <float32>[len(texts)], in the same order.
        """
        token_ids = self.vectorizer(tf.constant(texts, tf.string))
        return self.evaluator.predict(in_memory(token_ids))

    def explain(self, text: bytes) -> Explanation:
        """Says which words of a text moved its probability, and how far.

        Args:
            text: UTF-8; any bytes are allowed.
        """
        token_ids = self.vectorizer(tf.constant([text]))[0]
        weights, baseline = self.evaluator.contributions(token_ids)
        return Explanation(self.vectorizer.read_of(text), weights.numpy(), float(baseline))

    def evaluate(
        self,
        data: Data,
        split: str,
        *,
        stop: StopSignals | None = None,
        report_dir: Path | None = None,
    ) -> dict[str, object]:
        """Measures the model on `train`, `validation` or `test` of its data set.

        Args:
            data: The data set, opened.
            split: The split.
            stop: Asked between batches whether to go on.

            report_dir: Where errors.csv and curves.png of the evaluation go; None for none.

        Returns:
            dataset, split, examples, loss, accuracy, auc, calibration_error, and what
            `report.details` has. `loss` is of the calibrated logits. The calibration error of
            `validation`, where the temperature was fitted, is out-of-sample by cross-fitting.

        Raises:
            Stopped: A signal came.
        """
        examples = data.examples(split, self.vectorizer)
        logits = self.evaluator.logits(examples, stop=stop, what="scoring")
        if report_dir:
            self._report(data, split, logits, examples.labels, report_dir)
        about = {"dataset": data.dataset.name, "split": split, "examples": len(examples)}
        is_fitted = split == "validation"  # the temperature
        about |= (measured_where_fitted if is_fitted else measured)(examples.labels, logits)
        return about | report.details(logits, examples.labels, examples.lengths)

    def _report(
        self, data: Data, split: str, logits: np.ndarray, labels: np.ndarray, folder: Path
    ) -> None:
        chosen = report.worst(logits, labels)
        texts = data.original_texts(split, chosen)
        with full_disk_told("the report", folder):
            folder.mkdir(parents=True, exist_ok=True)
            of_them = (texts, logits[chosen], labels[chosen], self.label_names)
            report.write_errors(folder / "errors.csv", *of_them)
            report.draw(folder / "curves.png", logits, labels)


def load(model_dir: Path, *, precision: str | None = None) -> TrainedRun:
    """Loads the best model of the run in a folder; writes nothing.

    Args:
        model_dir: The run's folder.
        precision: The policy to compute by, in place of the one it was trained in.

    Raises:
        Mistake: There is no trained run there, or its parts do not belong together.
        Fault: Something there is damaged.
    """
    record = read_record(model_dir)
    config = record.config
    if config.objective != "sentiment":
        raise Mistake(
            f"{model_dir} holds a language model of scripts.pretrain, which tells no sentiment; "
            f"train from it: python -m scripts.train --model_dir=runs/NAME --init_from={model_dir}"
        )
    if precision is None and record.precision != devices.precision(config.precision):
        _log.warning(
            "%s was trained in %s and is computed in it here as well, where %s is usual",
            model_dir,
            record.precision,
            devices.precision(config.precision),
        )
    vectorizer, model, *best = load_best(model_dir, record, precision or record.precision)
    return TrainedRun(config, record.label_names, vectorizer, Evaluator(model), *best)


def read_record(model_dir: Path) -> RunRecord:
    """Reads what a folder's run is known by.

    Raises:
        Mistake: There is no run there.
        Fault: config.json is damaged.
    """
    record = RunRecord.read(model_dir)
    if record is None:
        raise Mistake(
            f"{model_dir} holds no run (no config.json); "
            f"train one: python -m scripts.train --model_dir={model_dir}"
        )
    return record


def load_best(
    model_dir: Path, record: RunRecord, precision: str
) -> tuple[Vectorizer, SentimentClassifier | LanguageModel, int, float]:
    """Loads what a run is used by.

    Returns:
        Vectorizer, model, and the epoch and validation loss that its weights are of.

    Raises:
        Mistake: There are none yet, or they do not belong together.
        Fault: Something there is damaged.
    """
    vectorizer = make_vectorizer(load_vocabulary(model_dir, record), record.config)
    model = build_model(record.config, vectorizer.vocabulary_size, precision)
    best_epoch, loss = restore_best(model_dir, model, fingerprint=record.fingerprint)
    return vectorizer, model, best_epoch, loss


def load_vocabulary(model_dir: Path, record: RunRecord) -> list[str]:
    """Loads the words of a run.

    Raises:
        Mistake: They are another run's.
        Fault: They are damaged.
    """
    path = model_dir / "vocabulary.txt"
    words = vocabulary.load(path)
    found = vocabulary.fingerprint(words)
    if found != record.fingerprint:
        raise Mistake(
            f"{path} is not this run's vocabulary: its SHA-256 is {found[:12]}…, config.json says "
            f"{record.fingerprint[:12]}…; put the right file back"
        )
    return words
