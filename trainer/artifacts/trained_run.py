"""A run's best model, from its folder: to predict, to explain, to be measured."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from model.classifier import TextClassifier
from pipeline import vocabulary
from pipeline.corpus import Corpus
from pipeline.errors import RunError, UserError
from pipeline.examples import unlabelled_examples
from pipeline.vocabulary import Vectorizer
from trainer.artifacts.checkpoints import restore_best
from trainer.artifacts.run_record import RunRecord
from trainer.building import build_model
from trainer.config import TrainConfig
from trainer.data import check_same_data, make_vectorizer
from trainer.evaluation import report
from trainer.evaluation.metrics import (
    compute_class_metrics,
    compute_cross_fitted_metrics,
    compute_metrics,
    confident_errors,
)
from trainer.evaluation.scoring import Evaluator
from trainer.runtime import devices

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
        data: The fingerprints of the data that it was trained on, if the run has them.
    """

    config: TrainConfig
    label_names: tuple[str, str]
    vectorizer: Vectorizer
    evaluator: Evaluator
    best_epoch: int
    validation_loss: float
    data: dict[str, str] = dataclasses.field(default_factory=dict)

    def predict(self, texts: Sequence[bytes | str]) -> np.ndarray:
        """Scores texts.

        Args:
            texts: Strings, or their bytes in UTF-8; any bytes are allowed.

        Returns:
            Probabilities of the second label, <float32>[len(texts)], in the same order.

        Raises:
            TypeError: `texts` is a single string, or has something else than strings.
        """
        if isinstance(texts, str | bytes):
            raise TypeError("predict takes several texts; for one, write predict([text])")
        token_ids = self.vectorizer(tf.constant([_bytes(text) for text in texts], tf.string))
        return self.evaluator.predict(unlabelled_examples(token_ids))

    def explain(self, text: bytes | str) -> Explanation:
        """Says which words of a text moved its probability, and how far.

        Args:
            text: A string, or its bytes in UTF-8; any bytes are allowed.

        Raises:
            TypeError: `text` is neither a string nor bytes.
        """
        text = _bytes(text)
        token_ids = self.vectorizer(tf.constant([text]))[0]
        weights, baseline = self.evaluator.contributions(token_ids)
        return Explanation(self.vectorizer.tokens_of(text), weights.numpy(), float(baseline))

    def evaluate(
        self,
        data: Corpus,
        split: str,
        *,
        report_dir: Path | None = None,
    ) -> dict[str, object]:
        """Measures the model on `train`, `validation` or `test` of its data set.

        Args:
            data: The data set, opened.
            split: The split.
            report_dir: Where errors.csv and curves.png of the evaluation go; None for none. If
                they cannot be written, a warning says so.

        Returns:
            dataset, split, examples, loss, accuracy, auc, calibration_error, and what
            `compute_class_metrics` returns. `loss` is of the calibrated logits. The calibration error of
            `validation`, where the temperature was fitted, is out-of-sample by cross-fitting.
            The auc is None if the split has only one class.

        Raises:
            UserError: The data have other labels than the run, or are not those it was trained on; or
                there are other files of these names in report_dir.
            Interrupted: A signal came.
        """
        if data.dataset.label_names != self.label_names:
            raise UserError(
                f"the labels of {data.dataset.name} are {data.dataset.label_names}, those of the "
                f"run {self.label_names}; open the data with label_names=run.label_names"
            )
        check_same_data(self.data, data, [split], what="the run")
        if report_dir:
            report.check_replaceable(report_dir)
        examples = data.examples(split, self.vectorizer)
        logits = self.evaluator.logits(examples, what="scoring")
        if report_dir:
            self._report(data, split, logits, examples.labels, report_dir)
        about = {"dataset": data.dataset.name, "split": split, "examples": len(examples)}
        is_fitted = split == "validation"  # the temperature
        compute = compute_cross_fitted_metrics if is_fitted else compute_metrics
        figures = compute(examples.labels, logits)
        about |= {name: None if math.isnan(v) else v for name, v in figures.items()}
        return about | compute_class_metrics(logits, examples.labels, examples.lengths)

    def _report(
        self, data: Corpus, split: str, logits: np.ndarray, labels: np.ndarray, folder: Path
    ) -> None:
        chosen = confident_errors(logits, labels)[: report.MAX_ERRORS]
        texts = data.original_texts(split, chosen)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            of_them = (texts, logits[chosen], labels[chosen], self.label_names)
            report.write_errors(folder / report.ERRORS, *of_them)
            report.draw_curves(folder / report.CURVES, logits, labels)
        except (OSError, RunError) as error:  # no reason to lose what was measured
            reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
            _log.warning("the report was not written, but the figures are complete: %s", reason)


def _bytes(text: bytes | str) -> bytes:
    """Encodes a text; an unpaired surrogate is encoded as by `surrogatepass`."""
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    raise TypeError(f"a text is a string or bytes, not {type(text).__name__}")


def load(
    model_dir: Path | str, *, precision: str | None = None, branches: int | None = None
) -> TrainedRun:
    """Loads the best model of the run in a folder; writes nothing.

    Args:
        model_dir: The run's folder.
        precision: The policy to compute by, in place of the one it was trained in.
        branches: Parts into which the model cuts a batch; None: as many as suit this machine,
            with TensorFlow's threads set accordingly where it is not initialized yet.

    Raises:
        UserError: There is no trained run there, or its parts do not belong together.
        RunError: Something there is damaged.
    """
    model_dir = Path(model_dir)
    record = read_record(model_dir)
    config = record.config
    if branches is None:
        devices.set_threads(config.batch_size, warns=False)  # logits differ by 1e-6 at most
    if precision is None:
        precision = devices.resolve_precision(config.precision, record.precision, str(model_dir))
    vectorizer, model, *best = load_best(model_dir, record, precision, branches)
    return TrainedRun(
        config, record.label_names, vectorizer, Evaluator(model), *best, data=record.data
    )


def read_record(model_dir: Path) -> RunRecord:
    """Reads what a folder's run is known by.

    Raises:
        UserError: There is no run there.
        RunError: config.json is damaged.
    """
    record = RunRecord.read(model_dir)
    if record is None:
        raise UserError(
            f"{model_dir} holds no run (no config.json); "
            f"train one: python -m scripts.train --model_dir={model_dir}"
        )
    return record


def load_best(
    model_dir: Path, record: RunRecord, precision: str, branches: int | None = None
) -> tuple[Vectorizer, TextClassifier, int, float]:
    """Loads what a run is used by.

    Returns:
        Vectorizer, model, and the epoch and validation loss that its weights are of.

    Raises:
        UserError: There are none yet, or they do not belong together.
        RunError: Something there is damaged.
    """
    vectorizer = make_vectorizer(load_vocabulary(model_dir, record), record.config)
    model = build_model(record.config, vectorizer.vocabulary_size, precision, branches)
    best_epoch, loss = restore_best(model_dir, model, fingerprint=record.fingerprint)
    return vectorizer, model, best_epoch, loss


def load_vocabulary(model_dir: Path, record: RunRecord) -> list[str]:
    """Loads the words of a run.

    Raises:
        UserError: They are another run's.
        RunError: They are damaged.
    """
    path = model_dir / "vocabulary.txt"
    words = vocabulary.load(path)
    found = vocabulary.fingerprint(words)
    if found != record.fingerprint:
        raise UserError(
            f"{path} is not this run's vocabulary: its SHA-256 is {found[:12]}…, config.json says "
            f"{record.fingerprint[:12]}…; put the right file back"
        )
    return words
