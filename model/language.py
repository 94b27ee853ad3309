"""A language model: what an encoder can learn from reviews that nobody has labelled."""

from __future__ import annotations

import itertools

import keras
import tensorflow as tf

from model.classifier import in_branches
from model.deep import DeepScores
from model.seeds import derive_seed

_FREQUENT = 2_000  # words that share the first softmax with the clusters of all others
_LESS_FREQUENT = 10_000  # words up to the second cluster
_NARROWING = 4  # how many times smaller each cluster's vectors are than those of the words before


class LanguageModel(keras.Model):
    """Predicts each word of a review from those before it.

    Args:
        deep: The network whose embedding and encoder it is made of; its logit is not used. The
            encoder must have `over_time`.
        vocabulary_size: Number of token ids, the most frequent words first; id 0 is padding.
        branches: See `SentimentClassifier`.
        seed: Decides the initial weights of the softmax.
    """

    def __init__(self, deep: DeepScores, *, vocabulary_size: int, branches: int, seed: int) -> None:
        super().__init__(dtype=deep.dtype_policy)
        self.deep = deep
        self._branches = branches
        self.softmax = AdaptiveSoftmax(vocabulary_size, seed=derive_seed(seed, "softmax"))

    def build(self, token_ids_shape: tuple[int | None, ...]) -> None:
        """Makes the encoder's weights, which Keras makes when it is called; here it never is."""
        embedded_shape = (*token_ids_shape, self.deep.embedding.output_dim)
        self.deep.encoder.build(embedded_shape, token_ids_shape[:1])

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the losses of words; see `word_losses`."""
        return self.word_losses(token_ids, training=training)

    def word_losses(self, token_ids: tf.Tensor, training: bool) -> tf.Tensor:
        """Measures how much each word surprises.

        Args:
            token_ids: <int32>[B, T], padded with 0 on the right.
            training: Whether dropout is on.

        Returns:
            -log p(word | words before) <float32>[N], in nats, of all but each review's first.
        """
        branches = in_branches(self.deep.cut(token_ids, training=training), self._branches)
        losses = []
        for number, some in enumerate(branches):
            with tf.name_scope(f"branch_{number}"):
                losses.append(self._read(some, training))
        return tf.concat(losses, axis=0)

    def _read(self, token_ids: tf.Tensor, training: bool) -> tf.Tensor:
        vectors = self.deep.over_time(token_ids[:, :-1], training=training)  # [T-1, B, D]
        following = tf.transpose(token_ids[:, 1:])  # [T-1, B]
        is_word = following > 0
        return self.softmax(tf.boolean_mask(vectors, is_word), tf.boolean_mask(following, is_word))


class AdaptiveSoftmax(keras.layers.Layer):
    """A softmax over many words that computes few logits for most of them.

    Rare words stand in two clusters; a word's probability is that of its cluster among the frequent
    words times its own within the cluster (Grave et al., Efficient softmax approximation for GPUs,
    ICML 2017). It is exact, other than sampling, so that training and validation are comparable.

    Args:
        vocabulary_size: Number of token ids, the most frequent first.
        seed: Decides the initial weights.
    """

    def __init__(self, vocabulary_size: int, *, seed: int) -> None:
        super().__init__(dtype="float32", autocast=False)
        bounds = (_FREQUENT, _LESS_FREQUENT, vocabulary_size)
        self._bounds = sorted({min(bound, vocabulary_size) for bound in bounds})
        self._seed = seed

    def build(
        self, vectors_shape: tuple[int | None, ...], words_shape: tuple[int | None, ...]
    ) -> None:
        """Makes the weights for vectors [N, D]."""
        del words_shape
        size = vectors_shape[-1]
        frequent, *_ = self._bounds
        clusters = list(itertools.pairwise(self._bounds))
        self.head = self._weight("head", size, frequent + len(clusters))
        self.head_bias = self.add_weight(
            shape=(frequent + len(clusters),), initializer="zeros", name="head_bias"
        )
        self.narrowing, self.tails = [], []
        for number, (start, end) in enumerate(clusters):
            narrow = max(1, size // _NARROWING ** (number + 1))
            self.narrowing.append(self._weight(f"narrowing_{number}", size, narrow))
            self.tails.append(self._weight(f"tail_{number}", narrow, end - start))

    def _weight(self, name: str, rows: int, columns: int) -> keras.Variable:
        initializer = keras.initializers.GlorotUniform(seed=derive_seed(self._seed, name))
        return self.add_weight(shape=(rows, columns), initializer=initializer, name=name)

    def call(self, vectors: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """Returns -log p(word) <float32>[N] of words <int32>[N] after vectors [N, D]."""
        vectors = tf.cast(vectors, tf.float32)
        frequent, places = self._bounds[0], words
        for number, start in enumerate(self._bounds[:-1]):
            places = tf.where(words >= start, frequent + number, places)
        losses = _cross_entropies(places, tf.matmul(vectors, self.head) + self.head_bias)
        for number, (start, end) in enumerate(itertools.pairwise(self._bounds)):
            rows = tf.where((words >= start) & (words < end))  # [M, 1]
            narrow = tf.matmul(tf.gather_nd(vectors, rows), self.narrowing[number])
            within = _cross_entropies(
                tf.gather_nd(words, rows) - start, tf.matmul(narrow, self.tails[number])
            )
            losses = tf.tensor_scatter_nd_add(losses, rows, within)
        return losses


def _cross_entropies(places: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=places, logits=logits)
