"""Fits the n-gram scorer by logistic regression, tuned and calibrated by cross-fitting.

A text is a row of a sparse matrix, with a 1 for each of its n-grams. Each n-gram is multiplied by
its scale, and then each row is divided by its Euclidean norm. The scale of an n-gram in n of N
texts is the square root of r^2 + (c * idf)^2. Here r is the Naive-Bayes log-ratio, because n-grams
that differ between the classes matter more (Wang & Manning, Baselines and Bigrams, ACL 2012), and
idf is 1 + log((1 + N) / (1 + n)), because rare n-grams say more.

Cross-fitting divides the texts into folds. The logits of each fold are those of a model of the
other folds, so all of them are out-of-sample (Chernozhukov et al., Double/Debiased Machine
Learning, 2018). The settings with the lowest loss of these logits are used. The logits also
calibrate the fit, by a factor and a bias for each logit: the penalty favours frequent classes.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import warnings
from collections.abc import Sequence
from concurrent import futures
from typing import NamedTuple

import numpy as np
from scipy import sparse

from model.labels import count_logits
from model.ngrams import NgramScorer
from pipeline.batches import evaluation_order
from pipeline.examples import Examples
from trainer.evaluation.calibration import fit_factor_and_bias
from trainer.monitoring.progress import with_progress
from trainer.objectives.liblinear import fit_logit
from trainer.objectives.ngram_matrix import ngram_logits, ngram_matrix, sorted_matrix

# The candidates, and the best ones on IMDB; see docs/experiments.md.
_SCALINGS = {1: (0.1, 0.3, 1.0), 2: (0.1, 0.3)}  # values of c for each min_count
_PENALTIES = (10.0, 100.0, 1000.0)  # C of scikit-learn; a larger C is a smaller penalty
_MIDDLE_PENALTY = 100.0  # for the choice of the scaling
_SELECTION_TEXTS = 5_000  # to choose settings on; more would take longer than the fit
_SELECTION_LOGITS = 10  # with more, IMDB's settings are used, for the same reason

_FOLDS, _FOLDS_OF_MANY, _SCALING_FOLDS = 5, 2, 3
_MANY_TEXTS = 10_000  # texts need only 2 folds: half of them are nearly as good as all
_SMOOTHING = 2.0  # the count that is added to each n-gram, divided between the classes

_THREADS = 2  # of cross-fitting: one prepares a fit while the solver runs in the other

_MAX_NGRAMS = 50_000_000  # of all texts to fit; they need about 60 bytes each
_log = logging.getLogger(__name__)


class Settings(NamedTuple):
    """The settings of a fit: n-grams of fewer than `min_count` texts are dropped; c; and C."""

    min_count: int
    idf_weight: float
    penalty: float


_IMDB_SETTINGS = Settings(2, 0.1, 1000.0)


@dataclasses.dataclass(frozen=True)
class NgramFit:
    """A fitted model of the columns of `NgramTexts.texts`."""

    scores: np.ndarray  # <float64>[R, L]
    scales: np.ndarray  # <float64>[R, L], 0 for n-grams that too few texts have
    bias: np.ndarray  # <float64>[L]

    def logits(self, texts: sparse.csr_matrix) -> np.ndarray:
        """Computes the logits <float64>[N, L] of texts [N, R]."""
        norms = np.sqrt(texts @ self.scales**2)
        return self.bias + texts @ self.scores / np.where(norms > 0, norms, 1)


@dataclasses.dataclass(frozen=True)
class NgramTexts:
    """Labelled texts as n-grams."""

    texts: sparse.csr_matrix  # <float64>[N, R], 1 for each n-gram of a text
    labels: np.ndarray  # <int>[N], class numbers
    class_count: int  # K
    weights: np.ndarray  # <float>[N], which multiply the losses

    def __getitem__(self, chosen: np.ndarray) -> NgramTexts:
        """Selects texts by a mask or positions."""
        return dataclasses.replace(
            self, texts=self.texts[chosen], labels=self.labels[chosen], weights=self.weights[chosen]
        )

    def __len__(self) -> int:
        return len(self.labels)


def fit_scorer(
    scorer: NgramScorer, training: Examples, class_weights: np.ndarray | None = None
) -> np.ndarray:
    """Fits an n-gram scorer to labelled examples.

    Args:
        scorer: The scorer, built.
        training: The examples, with class numbers as labels.
        class_weights: <float32>[K], which multiply the losses of the examples; None for 1.

    Returns:
        The cross-fitted logits of the examples <float32>[N, L], in their order. If the data is very
        large, the scorer is fitted to a part of it, and the other logits are those of this fit.

    Raises:
        Interrupted: A signal arrived.
    """
    is_chosen = _choose_texts(training.lengths, scorer.max_tokens)
    chosen, others = training[is_chosen], training[~is_chosen]
    of_total = f" of {len(training)}" if len(others) else ""
    _log.info("fitting n-grams to %d%s texts", len(chosen), of_total)
    order = evaluation_order(chosen.lengths)
    texts, rows = ngram_matrix(scorer, chosen)
    labels = chosen.labels[order]
    weights = np.ones(len(labels)) if class_weights is None else class_weights[labels]
    fit, cross_fitted = fit_ngrams(NgramTexts(texts, labels, scorer.class_count, weights))
    used = np.flatnonzero(fit.scales.any(axis=1))
    scorer.assign(rows[used], fit.scores[used], fit.scales[used], fit.bias)
    logits = np.empty([len(training), cross_fitted.shape[1]], np.float32)
    logits[np.flatnonzero(is_chosen)[order]] = cross_fitted
    logits[~is_chosen] = ngram_logits(scorer, others)  # not fitted to them: also out-of-sample
    return logits


def _choose_texts(lengths: np.ndarray, max_tokens: int) -> np.ndarray:
    """Returns a mask <bool>[N] of random texts with at most _MAX_NGRAMS n-grams in all."""
    shuffled = np.random.default_rng(0).permutation(len(lengths))
    is_chosen = np.empty(len(lengths), bool)
    total = np.cumsum(lengths[shuffled], dtype=np.int64) * max_tokens
    is_chosen[shuffled] = total <= max(_MAX_NGRAMS, total[0])
    return is_chosen


def fit_ngrams(data: NgramTexts) -> tuple[NgramFit, np.ndarray]:
    """Fits a logistic regression for each logit: one class against all others.

    Returns:
        The fit, and the cross-fitted logits <float32>[N, L]. Both are calibrated.

    Raises:
        Interrupted: A signal arrived.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Calibration follows, so the last digits of the weights do not matter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        settings, logits = _choose(data)
        common, is_common = _drop_rare(data, settings.min_count)
        # A third thread fits all texts. The solver runs in one thread at a time.
        with futures.ThreadPoolExecutor(1) as thread:
            fit_of_all = thread.submit(_fit, common, [settings])
            if logits is None:
                folds = assign_folds(data, _FOLDS if len(data) < _MANY_TEXTS else _FOLDS_OF_MANY)
                (logits,) = _cross_fit(common, folds, [settings])
            (fit,) = fit_of_all.result()
    factor, added, _ = fit_factor_and_bias(logits, data.labels, data.weights)
    scores, scales = np.zeros((2, len(is_common), logits.shape[1]))
    scores[is_common], scales[is_common] = factor * fit.scores, fit.scales
    calibrated = factor * logits + added
    return NgramFit(scores, scales, factor * fit.bias + added), calibrated.astype(np.float32)


def _choose(data: NgramTexts) -> tuple[Settings, np.ndarray | None]:
    """Chooses the scaling, then the penalty, whose cross-fitted logits have the lowest loss.

    Returns:
        The settings, and these logits <float64>[N, L]; None if they are those of a part of the
        texts.
    """
    if count_logits(data.class_count) > _SELECTION_LOGITS:
        return _IMDB_SETTINGS, None
    part = data
    if len(data) > _SELECTION_TEXTS:
        chosen = np.random.default_rng(0).permutation(len(data))[:_SELECTION_TEXTS]
        part, _ = _drop_rare(data[chosen], 1)  # without n-grams of other texts
    folds = assign_folds(part, _SCALING_FOLDS)
    losses_of_scalings: list[tuple[float, Settings]] = []
    for min_count, idf_weights in _SCALINGS.items():
        candidates = [Settings(min_count, weight, _MIDDLE_PENALTY) for weight in idf_weights]
        all_logits = _cross_fit(part, folds, candidates)
        losses_of_scalings += zip((_loss(part, z) for z in all_logits), candidates, strict=True)
    _, scaling = min(losses_of_scalings)
    candidates = [scaling._replace(penalty=penalty) for penalty in _PENALTIES]
    all_logits = _cross_fit(part, assign_folds(part, _FOLDS), candidates)
    losses = [_loss(part, z) for z in all_logits]
    best = int(np.argmin(losses))
    _log.info(
        "chosen by cross-fitting: n-grams in at least %d texts, idf weight %g, C %g (loss %.4f)",
        *(*candidates[best], losses[best]),
    )
    return candidates[best], all_logits[best] if part is data else None


def _loss(data: NgramTexts, logits: np.ndarray) -> float:
    """Returns the loss of logits <float64>[N, L] after calibration."""
    return fit_factor_and_bias(logits, data.labels, data.weights).loss


def assign_folds(data: NgramTexts, count: int) -> np.ndarray:
    """Assigns the texts to `count` folds <int64>[N] of equal size.

    Each fold has an equal share of every class. Copies of a text are in one fold.
    """
    random = np.random.default_rng(0)
    keys = data.texts @ random.random(data.texts.shape[1])  # equal only for equal texts
    _, first, copies = np.unique(keys, return_index=True, return_inverse=True)
    shuffled = random.permutation(first)
    by_class = shuffled[np.argsort(data.labels[shuffled], kind="stable")]
    folds = np.empty(len(data), np.int64)
    folds[by_class] = np.arange(len(by_class)) % count
    return folds[first][copies]


def _cross_fit(data: NgramTexts, folds: np.ndarray, candidates: Sequence[Settings]) -> np.ndarray:
    """Computes the cross-fitted logits <float64>[S, N, L] of S candidates; see `_fit`."""
    logits = np.zeros([len(candidates), len(data), count_logits(data.class_count)])
    count = int(folds.max()) + 1

    def score_held_out(fold: int) -> None:
        is_held_out = folds == fold
        for number, fit in enumerate(_fit(data[~is_held_out], candidates)):
            logits[number, is_held_out] = fit.logits(data.texts[is_held_out])

    with futures.ThreadPoolExecutor(_THREADS) as threads:
        try:
            for _ in with_progress(
                threads.map(score_held_out, range(count)),
                description="cross-fitting n-grams",
                total=len(data),
                chunk_size=math.ceil(len(data) / count),
            ):
                pass
        finally:
            threads.shutdown(cancel_futures=True)  # after a signal, only running fits go on
    return logits


def _fit(data: NgramTexts, candidates: Sequence[Settings]) -> list[NgramFit]:
    """Fits a model for each candidate. All candidates must have the same `min_count`.

    Adjacent candidates with the same `idf_weight` share one scaled matrix.
    """
    common, is_common = _drop_rare(data, candidates[0].min_count)
    numbers = [1] if data.class_count == 2 else list(range(data.class_count))
    is_in_class = data.labels[:, np.newaxis] == numbers
    counts, class_counts = _count(common.texts), common.texts.T @ is_in_class.astype(float)
    idf = 1 + np.log((1 + len(data)) / (1 + counts))
    shape = (len(candidates), len(is_common), len(numbers))
    scores, scales, bias = np.zeros(shape), np.zeros(shape), np.zeros([shape[0], shape[2]])
    for j, is_class in enumerate(is_in_class.T):
        ratios = _log_ratios(counts, class_counts[:, j])
        for idf_weight, same_scale in itertools.groupby(
            enumerate(candidates), lambda item: item[1].idf_weight
        ):
            class_scales = np.hypot(ratios, idf_weight * idf)
            scaled = _normalize(common.texts, class_scales)
            for i, settings in same_scale:
                weights, bias[i, j] = fit_logit(scaled, is_class, data.weights, settings.penalty)
                scores[i, is_common, j] = weights * class_scales
                scales[i, is_common, j] = class_scales
    return [NgramFit(*arrays) for arrays in zip(scores, scales, bias, strict=True)]


def _drop_rare(data: NgramTexts, min_count: int) -> tuple[NgramTexts, np.ndarray]:
    """Removes the columns of n-grams that fewer than `min_count` texts have.

    Returns:
        The data, and a mask <bool>[R] of the columns that are left.
    """
    texts, is_common = data.texts, _count(data.texts) >= min_count
    if is_common.all():
        return data, is_common
    lengths = texts @ is_common.astype(float)
    starts = np.concatenate([[0], np.cumsum(lengths).astype(texts.indptr.dtype)])
    columns = np.cumsum(is_common, dtype=np.int32) - 1
    indices = columns[texts.indices[is_common[texts.indices]]]
    shape = (len(data), int(is_common.sum()))
    texts = sorted_matrix((texts.data[: len(indices)], indices, starts), shape)
    return dataclasses.replace(data, texts=texts), is_common


def _count(texts: sparse.csr_matrix) -> np.ndarray:
    """Returns the number of texts <float64>[R] that have each n-gram."""
    return texts.T @ np.ones(texts.shape[0])


def _log_ratios(counts: np.ndarray, class_counts: np.ndarray) -> np.ndarray:
    """Returns log(p(n-gram | class) / p(n-gram | all other classes)), smoothed, <float64>[R].

    The probabilities are shares of all n-grams. The smoothing is divided in proportion to the sizes
    of the classes. The ratio of an n-gram that is equally frequent in both is then 0, even if it is
    rare and the classes differ in size; equal smoothing would shift it towards the smaller class.

    Args:
        counts: <float64>[R], texts that have an n-gram.
        class_counts: <float64>[R], texts of the class that have it.
    """
    share = class_counts.sum() / counts.sum() if counts.sum() else 0.0
    if share in (0.0, 1.0):  # there is nothing to compare
        return np.zeros(len(counts))
    inside = class_counts + _SMOOTHING * share
    outside = counts - class_counts + _SMOOTHING * (1 - share)
    return np.log(inside / outside) - np.log(share / (1 - share))


def _normalize(texts: sparse.csr_matrix, scales: np.ndarray) -> sparse.csr_matrix:
    """Multiplies columns by their scales, and divides rows by their norms."""
    norms = np.sqrt(texts @ scales**2)
    factors = 1 / np.where(norms > 0, norms, 1)
    values = scales[texts.indices]
    values *= np.repeat(factors, np.diff(texts.indptr))
    return sorted_matrix((values, texts.indices, texts.indptr), texts.shape)
