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
import logging
import math
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from scipy import sparse

from model.labels import count_logits
from model.ngrams import NgramScorer
from pipeline.batches import evaluation_batches, evaluation_order
from pipeline.examples import Examples
from trainer.evaluation.calibration import fit_factor_and_bias
from trainer.monitoring.progress import with_progress

# The candidates, and the best ones on IMDB; see docs/experiments.md.
_SCALINGS = ((1, 0.1), (1, 0.3), (1, 1.0), (2, 0.1), (2, 0.3))  # smallest n, and c
_PENALTIES = (10.0, 100.0, 1000.0)  # C of scikit-learn; a larger C is a smaller penalty
_MIDDLE_PENALTY = 100.0  # for the choice of the scaling
_IMDB_SCALING, _IMDB_PENALTY = (2, 0.1), 1000.0
_SELECTION_TEXTS = 5_000  # to choose settings on; more would take longer than the fit
_SELECTION_LOGITS = 10  # with more, IMDB's settings are used, for the same reason

_FOLDS, _FOLDS_OF_MANY, _SCALING_FOLDS = 5, 2, 3
_MANY_TEXTS = 10_000  # texts need only 2 folds: half of them are nearly as good as all
_SMOOTHING = 2.0  # the count that is added to each n-gram, divided between the classes
_TOLERANCE, _MAX_ITERATIONS = 0.01, 100  # of liblinear

_MAX_NGRAMS = 50_000_000  # of all texts to fit; they need about 60 bytes each
_BATCH = 1024  # examples; a larger batch needs more memory and is hardly faster
_SIGNATURE = [tf.TensorSpec([None, None], tf.int32)]  # of token ids

_Scaling = tuple[int, float]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class NgramFit:
    """A fitted model of some columns of `NgramTexts.texts`."""

    columns: np.ndarray  # <int64>[M], of the n-grams that enough texts have
    scores: np.ndarray  # <float64>[M, L]
    scales: np.ndarray  # <float64>[M, L]
    bias: np.ndarray  # <float64>[L]

    def logits(self, texts: sparse.csr_matrix) -> np.ndarray:
        """Computes the logits <float64>[N, L] of texts [N, R]."""
        found = texts[:, self.columns]
        norms = np.sqrt(found @ self.scales**2)
        return self.bias + found @ self.scores / np.where(norms > 0, norms, 1)


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
    texts, rows = _ngram_matrix(scorer, chosen)
    labels = chosen.labels[order]
    weights = np.ones(len(labels)) if class_weights is None else class_weights[labels]
    fit, cross_fitted = fit_ngrams(NgramTexts(texts, labels, scorer.class_count, weights))
    scorer.assign(rows[fit.columns], fit.scores, fit.scales, fit.bias)
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


def _ngram_matrix(scorer: NgramScorer, examples: Examples) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Returns the n-grams <float64>[N, R] of examples in `evaluation_order`, and their rows [R].

    Column r of the matrix is row rows[r] of the scorer's table.
    """
    find_rows = tf.function(scorer.find_rows, input_signature=_SIGNATURE)
    found, lengths = [], [np.zeros(1, np.int64)]
    for token_ids in _batches(examples, "finding n-grams"):
        numbers, rows = find_rows(token_ids)
        found.append(rows.numpy())
        lengths.append(np.bincount(numbers.numpy(), minlength=len(token_ids)))
    all_rows = np.concatenate(found)
    used = np.flatnonzero(np.bincount(all_rows, minlength=scorer.row_count))
    columns = np.zeros(scorer.row_count, np.int32)
    columns[used] = np.arange(len(used))
    starts = np.cumsum(np.concatenate(lengths))
    values = np.ones(len(all_rows))
    texts = sparse.csr_matrix((values, columns[all_rows], starts), (len(examples), len(used)))
    texts.sort_indices()  # otherwise scikit-learn sorts them for each fit
    return texts, used


def ngram_logits(scorer: NgramScorer, examples: Examples) -> np.ndarray:
    """Computes the logits <float32>[N, L] of examples, in their order.

    Raises:
        Interrupted: A signal arrived.
    """
    score = tf.function(scorer.call, input_signature=_SIGNATURE)
    by_length = [score(token_ids).numpy() for token_ids in _batches(examples, "scoring n-grams")]
    logits = np.empty([len(examples), *scorer.bias.shape], np.float32)
    logits[evaluation_order(examples.lengths)] = np.concatenate([logits[:0], *by_length])
    return logits


def _batches(examples: Examples, description: str) -> Iterator[tf.Tensor]:
    """Yields the token ids <int32>[B, T] of examples in `evaluation_order`."""
    for token_ids, *_ in with_progress(
        evaluation_batches(examples, batch_size=_BATCH),
        description=description,
        total=len(examples),
        chunk_size=_BATCH,
    ):
        yield token_ids


def fit_ngrams(data: NgramTexts) -> tuple[NgramFit, np.ndarray]:
    """Fits a logistic regression for each logit: one class against all others.

    Returns:
        The fit, and the cross-fitted logits <float32>[N, L]. Both are calibrated.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Calibration follows, so the last digits of the weights do not matter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        scaling, penalty, logits = _choose(data)
        if logits is None:
            folds = assign_folds(data, _FOLDS if len(data) < _MANY_TEXTS else _FOLDS_OF_MANY)
            (logits,) = _cross_fit(data, folds, scaling, [penalty])
        (fit,) = _fit(data, scaling, [penalty])
    factor, added, _ = fit_factor_and_bias(logits, data.labels, data.weights)
    scores, bias = factor * fit.scores, factor * fit.bias + added
    calibrated = factor * logits + added
    return dataclasses.replace(fit, scores=scores, bias=bias), calibrated.astype(np.float32)


def _choose(data: NgramTexts) -> tuple[_Scaling, float, np.ndarray | None]:
    """Chooses the scaling, then the penalty, whose cross-fitted logits have the lowest loss.

    Returns:
        The scaling, the penalty, and these logits <float64>[N, L]; None if they are those of a part
        of the texts.
    """
    if count_logits(data.class_count) > _SELECTION_LOGITS:
        return _IMDB_SCALING, _IMDB_PENALTY, None
    part = data
    if len(data) > _SELECTION_TEXTS:
        part = data[np.random.default_rng(0).permutation(len(data))[:_SELECTION_TEXTS]]

    def cross_fit(
        folds: int, scaling: _Scaling, penalties: Sequence[float]
    ) -> list[tuple[float, float, np.ndarray]]:
        """Returns the loss, the penalty and the logits for each penalty."""
        all_logits = _cross_fit(part, assign_folds(part, folds), scaling, penalties)
        losses = [fit_factor_and_bias(z, part.labels, part.weights).loss for z in all_logits]
        return list(zip(losses, penalties, all_logits, strict=True))

    scaling = min(
        _SCALINGS, key=lambda scaling: cross_fit(_SCALING_FOLDS, scaling, [_MIDDLE_PENALTY])[0][0]
    )
    loss, penalty, logits = min(cross_fit(_FOLDS, scaling, _PENALTIES), key=lambda fit: fit[0])
    _log.info(
        "chosen by cross-fitting: n-grams in at least %d texts, idf weight %g, C %g (loss %.4f)",
        *(*scaling, penalty, loss),
    )
    return scaling, penalty, logits if part is data else None


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


def _cross_fit(
    data: NgramTexts, folds: np.ndarray, scaling: _Scaling, penalties: Sequence[float]
) -> np.ndarray:
    """Computes the cross-fitted logits <float64>[P, N, L] of P penalties."""
    logits = np.zeros([len(penalties), len(data), count_logits(data.class_count)])
    count = int(folds.max()) + 1
    for fold in with_progress(
        range(count),
        description="cross-fitting n-grams",
        total=len(data),
        chunk_size=math.ceil(len(data) / count),
    ):
        is_held_out = folds == fold
        for number, fit in enumerate(_fit(data[~is_held_out], scaling, penalties)):
            logits[number, is_held_out] = fit.logits(data.texts[is_held_out])
    return logits


def _fit(data: NgramTexts, scaling: _Scaling, penalties: Sequence[float]) -> list[NgramFit]:
    """Fits a model for each penalty."""
    min_count, idf_weight = scaling
    counts = np.bincount(data.texts.indices, minlength=data.texts.shape[1])
    columns = np.flatnonzero(counts >= min_count)
    found, idf = data.texts[:, columns], 1 + np.log((1 + len(data)) / (1 + counts[columns]))
    numbers = [1] if data.class_count == 2 else range(data.class_count)
    shape = (len(penalties), len(columns), len(numbers))
    scores, scales, bias = np.zeros(shape), np.zeros(shape[1:]), np.zeros([shape[0], shape[2]])
    for j, number in enumerate(numbers):
        is_class = data.labels == number
        ratios = _log_ratios(counts[columns], _count(found[is_class]))
        scales[:, j] = np.hypot(ratios, idf_weight * idf)
        scaled = _normalize(found, scales[:, j])
        for p, penalty in enumerate(penalties):
            weights, bias[p, j] = _fit_logit(scaled, is_class, data.weights, penalty)
            scores[p, :, j] = weights * scales[:, j]
    return [NgramFit(columns, scores[p], scales, bias[p]) for p in range(len(penalties))]


def _count(texts: sparse.csr_matrix) -> np.ndarray:
    """Returns the number of texts <int64>[M] that have each n-gram."""
    return np.bincount(texts.indices, minlength=texts.shape[1])


def _log_ratios(counts: np.ndarray, class_counts: np.ndarray) -> np.ndarray:
    """Returns log(p(n-gram | class) / p(n-gram | all other classes)), smoothed, <float64>[M].

    The probabilities are shares of all n-grams. The smoothing is divided in proportion to the sizes
    of the classes. The ratio of an n-gram that is equally frequent in both is then 0, even if it is
    rare and the classes differ in size; equal smoothing would shift it towards the smaller class.

    Args:
        counts: <int64>[M], texts that have an n-gram.
        class_counts: <int64>[M], texts of the class that have it.
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
    values = scales[texts.indices] / np.repeat(np.where(norms > 0, norms, 1), np.diff(texts.indptr))
    scaled = sparse.csr_matrix((values, texts.indices, texts.indptr), texts.shape)
    scaled.has_sorted_indices = True
    return scaled


def _fit_logit(
    texts: sparse.csr_matrix, is_class: np.ndarray, weights: np.ndarray, penalty: float
) -> tuple[np.ndarray, float]:
    """Fits one logit to scaled texts; returns the weights <float64>[M] and the bias."""
    from sklearn.linear_model import LogisticRegression  # slow to import

    inside = int(is_class.sum())
    outside = len(is_class) - inside
    if not inside or not outside or not texts.shape[1]:
        return np.zeros(texts.shape[1]), math.log((inside + 0.5) / (outside + 0.5))
    # liblinear's dual coordinate descent (Yu, Huang & Lin, Machine Learning 85, 2011) needs a
    # tenth of the time of L-BFGS. Its random generator is global, so concurrent fits would not be
    # reproducible.
    model = LogisticRegression(
        C=penalty,
        solver="liblinear",
        dual=True,
        tol=_TOLERANCE,
        max_iter=_MAX_ITERATIONS,
        random_state=0,
    ).fit(texts, is_class, sample_weight=weights)
    return model.coef_[0], float(model.intercept_[0])
