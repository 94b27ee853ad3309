"""The n-grams of examples as a sparse matrix, and the logits of a fitted n-gram scorer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import tensorflow as tf
from scipy import sparse

from model.ngrams import NgramScorer
from pipeline.batches import evaluation_batches, evaluation_order
from pipeline.examples import Examples
from trainer.monitoring.progress import with_progress
from trainer.runtime import processor

_BATCH = 256  # examples; a larger batch needs more memory and is hardly faster
_T = TypeVar("_T")


def ngram_matrix(scorer: NgramScorer, examples: Examples) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Returns the n-grams <float64>[N, R] of examples in `evaluation_order`, and rows <int64>[R].

    Column r of the matrix is row rows[r] of the scorer's table. Frequent n-grams have the first
    columns: their weights are then together in the processor's cache, so fits take half the time.

    Raises:
        Interrupted: A signal arrived.
    """
    found, lengths = [np.empty(0, np.int32)], [np.zeros(1, np.int64)]
    # AutoGraph takes 0.2 s and would change nothing.
    hash_ngrams = tf.autograph.experimental.do_not_convert(scorer.hash_ngrams)
    batches = _batches(examples).map(hash_ngrams, num_parallel_calls=processor.cores())
    arrays = _show_progress(batches.as_numpy_iterator(), "finding n-grams", len(examples))
    for hashes in arrays:
        ngrams = np.sort(hashes.reshape(len(hashes), -1), axis=1)  # padding, -1, comes first
        is_new = np.diff(ngrams, axis=1, prepend=-1) != 0
        found.append(ngrams[is_new])
        lengths.append(is_new.sum(axis=1))
    hashes = np.concatenate(found)
    with tf.device("CPU"):  # NumPy's bincount would copy the hashes to int64
        counts = tf.math.bincount(hashes, minlength=scorer.row_count).numpy()
    rows = np.flatnonzero(counts)
    # A stable sort of 16-bit numbers takes linear time.
    clipped = np.minimum(counts[rows], np.iinfo(np.uint16).max).astype(np.uint16)
    rows = rows[np.argsort(clipped, kind="stable")[::-1]]
    columns = np.zeros(scorer.row_count, np.int32)
    columns[rows] = np.arange(len(rows))
    indices, starts = columns[hashes], np.cumsum(np.concatenate(lengths))
    for text in np.split(indices, starts[1:-1]):
        text.sort()
    values = (np.ones(len(indices)), indices, starts)
    return sorted_matrix(values, (len(examples), len(rows))), rows


def sorted_matrix(
    values: tuple[np.ndarray, np.ndarray, np.ndarray], shape: tuple[int, int]
) -> sparse.csr_matrix:
    """Builds a matrix of data, column indices and row starts. Each row must already be sorted."""
    texts = sparse.csr_matrix(values, shape)
    texts.has_sorted_indices = True  # otherwise scikit-learn sorts them for each fit
    return texts


def ngram_logits(scorer: NgramScorer, examples: Examples) -> np.ndarray:
    """Computes the logits <float32>[N, L] of examples, in their order.

    Raises:
        Interrupted: A signal arrived.
    """
    if not len(examples):  # usual without unlabelled texts; tracing would take time for nothing
        return np.empty([0, *scorer.bias.shape], np.float32)
    score = tf.function(scorer.call, input_signature=[tf.TensorSpec([None, None], tf.int32)])
    batches = _show_progress(_batches(examples), "scoring n-grams", len(examples))
    by_length = [score(token_ids).numpy() for token_ids in batches]
    logits = np.empty([len(examples), *scorer.bias.shape], np.float32)
    logits[evaluation_order(examples.lengths)] = np.concatenate([logits[:0], *by_length])
    return logits


def _batches(examples: Examples) -> tf.data.Dataset:
    """Returns the token ids <int32>[B, T] of examples, in `evaluation_order`."""
    only_token_ids = tf.autograph.experimental.do_not_convert(lambda token_ids, *_: token_ids)
    return evaluation_batches(examples, batch_size=_BATCH).map(only_token_ids)


def _show_progress(batches: Iterable[_T], description: str, total: int) -> Iterator[_T]:
    return with_progress(batches, description=description, total=total, chunk_size=_BATCH)
