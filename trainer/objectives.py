"""What training is for: the loss of a step, what is told of it, and the measure of an epoch."""

from __future__ import annotations

import abc
import logging

import numpy as np
import tensorflow as tf

from model.classifier import SentimentClassifier
from model.deep import DeepScores
from model.language import LanguageModel
from model.ngrams import NgramScores
from model.seeds import derive_seed
from pipeline.batches import NO_REVIEW, evaluation_batches
from pipeline.errors import Mistake
from pipeline.reviews import Reviews
from trainer.adversarial import adversarial_losses, virtual_adversarial_losses
from trainer.config import TrainConfig
from trainer.evaluator import Evaluator, cross_entropies, measured_where_fitted
from trainer.metrics import Metrics, WordMetrics
from trainer.progress import watched
from trainer.replicas import Replicas
from trainer.stopping import StopSignals
from trainer.summaries import Summaries

_log = logging.getLogger(__name__)

_SEEDS_BETWEEN = 10_000_019  # from one replica's random directions to the next one's
_COUNTING_BATCH = 1024  # reviews; a batch costs a pass over all counts
_READING_BATCH = 32  # reviews whose words are predicted at once; each word has thousands of logits


class Objective(abc.ABC):
    """What a model is trained for.

    Args:
        config: The settings.
        model: The model, built.
        replicas: Where it was made.
    """

    @abc.abstractmethod
    def new_metrics(self) -> Metrics | WordMetrics:
        """Makes what adds up over batches; `losses` says what it is told."""

    @abc.abstractmethod
    def prepare(self, training: Reviews, *, stop: StopSignals) -> None:
        """Does what is done once, before the first step."""

    @abc.abstractmethod
    def graph(self) -> tf.Graph:
        """Returns what validation has the model compute."""

    @abc.abstractmethod
    def vectors(self) -> dict[str, np.ndarray]:
        """Returns the vectors of token ids <float32>[V, E] by the name of their part."""

    @abc.abstractmethod
    def losses(
        self, token_ids: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """Reads a batch of training.

        Args:
            token_ids: <int32>[B, T].
            labels: <float32>[B], 0 to 1; -1 of a review without a label, NO_REVIEW of none.
            step: <int64>[], steps taken so far; with the seed it decides what is drawn.

        Returns:
            Losses <float32>[...] whose sum, over the batch size, the step minimizes; and what the
            metrics' `update` takes.
        """

    @abc.abstractmethod
    def validate(
        self, validation: Reviews, summaries: Summaries, *, step: int, stop: StopSignals
    ) -> dict[str, float]:
        """Measures the model after an epoch.

        Args:
            validation: The split.
            summaries: Where it may write pictures; the trainer writes the figures.
            step: Steps taken so far.
            stop: Asked between batches whether to go on.

        Returns:
            Figures by name, of which `loss` decides which epoch is best.
        """


class Sentiment(Objective):
    """To tell positive reviews from negative ones: the loss of each part of a classifier."""

    def __init__(self, config: TrainConfig, model: SentimentClassifier, replicas: Replicas) -> None:
        self._config, self._model, self._replicas = config, model, replicas
        self._evaluator = Evaluator(model, replicas)

    def new_metrics(self) -> Metrics:
        """Makes those of labels and logits."""
        return Metrics()

    def prepare(self, training: Reviews, *, stop: StopSignals) -> None:
        """Counts n-grams in the labelled reviews."""
        if not any(isinstance(part, NgramScores) for part in self._model.learning):
            return
        labelled = training[training.labels >= 0]
        batches = evaluation_batches(labelled, batch_size=_COUNTING_BATCH)
        about = {"total": len(labelled), "per_part": _COUNTING_BATCH, "what": "counting n-grams"}
        _log.info("counting n-grams in %d texts", len(labelled))
        self._model.count(watched(batches, **about, stop=stop))

    def graph(self) -> tf.Graph:
        """Returns that of `Evaluator.score_step`."""
        return self._evaluator.score_step.get_concrete_function().graph

    def vectors(self) -> dict[str, np.ndarray]:
        """Returns those of each deep part."""
        deep = [part for part in self._model.parts if isinstance(part, DeepScores)]
        return {part.name: part.embedding.embeddings.numpy() for part in deep}

    def losses(
        self, token_ids: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """Returns the cross-entropies and the adversarial losses; see `Objective.losses`."""
        logits = self._model.part_logits(token_ids, training=True)  # [B, P]
        is_labelled = labels >= 0
        targets = _smoothed(labels, self._config.label_smoothing)
        by_part = tf.where(
            is_labelled[:, tf.newaxis], cross_entropies(_repeated(targets, logits), logits), 0.0
        )
        losses = [tf.reshape(by_part, [-1])]
        if self._config.adversarial != "none":
            losses.append(self._adversarial_losses(token_ids, labels, step))
        logits = tf.reduce_mean(logits, axis=1)
        return tf.concat(losses, axis=0), (labels, logits, cross_entropies(labels, logits))

    def _adversarial_losses(
        self, token_ids: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tf.Tensor:
        """Returns those of each deep part that learns, [parts * B]."""
        model, config, losses = self._model, self._config, []
        branches = zip(model.in_branches(token_ids), model.in_branches(labels), strict=True)
        parts = [part for part in model.learning if isinstance(part, DeepScores)]
        for number, (some, their) in enumerate(branches):
            for place, part in enumerate(parts):
                if config.adversarial == "adversarial":
                    harm = adversarial_losses(part, some, their, size=config.perturbation)
                    losses.append(tf.where(their >= 0, harm, 0.0))
                else:
                    seed = derive_seed(config.seed, f"direction/{place}/{number}")
                    seed = tf.stack([seed + _SEEDS_BETWEEN * self._replicas.number(), step])
                    harm = virtual_adversarial_losses(
                        part, some, size=config.perturbation, seed=seed
                    )
                    losses.append(tf.where(their > NO_REVIEW, harm, 0.0))
        return tf.concat(losses, axis=0)

    def validate(
        self, validation: Reviews, summaries: Summaries, *, step: int, stop: StopSignals
    ) -> dict[str, float]:
        """Sets the temperature, measures the model and draws its decisions.

        `loss` is computed from the uncalibrated logits, as in training. With a temperature fitted
        on the same split, an overconfident model would look better than it is. All other figures
        are computed from the calibrated logits.
        """
        logits = self._evaluator.calibrate(validation, stop=stop)
        calibrated = logits / self._model.temperature.numpy()
        if np.isfinite(logits).all():
            summaries.write_decisions(validation, calibrated, step=step)
        loss = float(np.mean(cross_entropies(validation.labels, logits)))
        return measured_where_fitted(validation.labels, calibrated) | {"loss": loss}


class NextWords(Objective):
    """To predict each word of a review from those before it; needs no labels."""

    def __init__(self, config: TrainConfig, model: LanguageModel, replicas: Replicas) -> None:
        if replicas.count > 1:  # its loss is a mean over words, of which each replica has others
            raise Mistake(
                f"--distribute={config.distribute} is not for scripts.pretrain, which trains on "
                "one device; use --distribute=none"
            )
        self._model = model

    def new_metrics(self) -> WordMetrics:
        """Makes those of words."""
        return WordMetrics()

    def prepare(self, training: Reviews, *, stop: StopSignals) -> None:
        """Does nothing."""

    def graph(self) -> tf.Graph:
        """Returns that of the words' losses."""
        return self._read.get_concrete_function().graph

    def vectors(self) -> dict[str, np.ndarray]:
        """Returns those of the one part."""
        deep = self._model.deep
        return {deep.name: deep.embedding.embeddings.numpy()}

    def losses(
        self, token_ids: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """Returns the mean loss of a word, once for each review; see `Objective.losses`."""
        del labels, step
        losses = self._model.word_losses(token_ids, training=True)  # [N]
        mean = tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(tf.size(losses), tf.float32))
        return tf.fill(tf.shape(token_ids)[:1], mean), (losses,)

    def validate(
        self, validation: Reviews, summaries: Summaries, *, step: int, stop: StopSignals
    ) -> dict[str, float]:
        """Returns loss (nats a word) and perplexity, over all words that are predicted."""
        del summaries, step
        metrics = self.new_metrics()
        batches = evaluation_batches(validation, batch_size=_READING_BATCH)
        about = {"total": len(validation), "per_part": _READING_BATCH, "what": "scoring"}
        for token_ids, _ in watched(batches, **about, stop=stop):
            metrics.update(self._read(token_ids))
        return metrics.result()

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def _read(self, token_ids: tf.Tensor) -> tf.Tensor:
        return self._model.word_losses(token_ids, training=False)


def _smoothed(labels: tf.Tensor, share: float) -> tf.Tensor:
    """Moves labels [B] towards 0.5 by a share of their distance, as Keras' cross-entropy does."""
    return labels * (1 - share) + 0.5 * share if share else labels


def _repeated(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Repeats labels [B] for each part of logits [B, P]."""
    return tf.broadcast_to(labels[:, tf.newaxis], tf.shape(logits))
