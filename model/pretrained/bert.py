"""BERT's encoder: from token ids to one vector per token.

Devlin et al., BERT, NAACL 2019, after Vaswani et al., Attention Is All You Need, NeurIPS 2017.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from model.seeds import derive_seed

# Added to the attention scores of padding, whose softmax weight is then 0, also in float16.
_MASKED = -1e4

ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "gelu": functools.partial(tf.nn.gelu, approximate=False),
    "gelu_new": functools.partial(tf.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(tf.nn.gelu, approximate=True),
    "relu": tf.nn.relu,
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The sizes and constants of an encoder.

    Attributes:
        vocabulary_size: Number of token ids, V; id 0 is padding.
        hidden_size: Size of the vector of a token, H.
        layer_count: Number of layers.
        head_count: Number of attention heads.
        intermediate_size: Size of the hidden layer of each feed-forward network.
        position_count: Maximum number of tokens of a text, P.
        type_count: Number of token types; all tokens here have type 0. 0: no types.
        epsilon: Added to the variance in layer normalization.
        activation: A key of ACTIVATIONS.
        dropout: Dropout rate of embeddings and of the results of each layer.
        attention_dropout: Dropout rate of attention.
    """

    vocabulary_size: int
    hidden_size: int
    layer_count: int
    head_count: int
    intermediate_size: int
    position_count: int
    type_count: int
    epsilon: float
    activation: str
    dropout: float
    attention_dropout: float


class Bert(keras.layers.Layer):
    """Encodes token ids as one vector per token.

    Args:
        architecture: Its sizes and constants.
        seed: The seed of its dropout. The weights are 0 until they are assigned.
        dtype: Precision policy.
    """

    def __init__(self, architecture: Architecture, *, seed: int, dtype: keras.DTypePolicy) -> None:
        super().__init__(dtype=dtype)
        self._architecture = architecture
        self.embeddings = Embeddings(
            architecture, seed=derive_seed(seed, "embeddings"), dtype=dtype
        )
        names = [f"block_{number}" for number in range(architecture.layer_count)]
        self.blocks = [
            Block(architecture, name=name, seed=derive_seed(seed, name), dtype=dtype)
            for name in names
        ]

    def freeze_except_last(self, count: int) -> None:
        """Freezes the embeddings and all layers except the last `count`."""
        self.embeddings.trainable = False
        for block in self.blocks[: max(0, len(self.blocks) - count)]:
            block.trainable = False

    def build(self, token_ids_shape: tuple[int | None, ...]) -> None:
        """Creates the weights."""
        self.embeddings.build(token_ids_shape)
        for block in self.blocks:
            block.build((*token_ids_shape, self._architecture.hidden_size))

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the vectors [B, T, H] of token_ids <int32>[B, T], T ≤ P."""
        return self.encode(self.embeddings.look_up(token_ids), token_ids > 0, training)

    def encode(self, vectors: tf.Tensor, is_token: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the vectors [B, T, H] of tokens.

        Args:
            vectors: The word embeddings [B, T, H].
            is_token: <bool>[B, T], false for padding.
            training: Whether dropout is applied in the layers that are trained.
        """
        hidden = self.embeddings(vectors, training=training and self.embeddings.trainable)
        mask = tf.cast(~is_token, hidden.dtype)[:, tf.newaxis, tf.newaxis] * _MASKED  # [B, 1, 1, T]
        for block in self.blocks:
            hidden = block(hidden, mask, training=training and block.trainable)
        return hidden


class Embeddings(keras.layers.Layer):
    """Adds the embeddings of positions and of type 0 to word embeddings, and normalizes them."""

    def __init__(self, architecture: Architecture, *, seed: int, dtype: keras.DTypePolicy) -> None:
        super().__init__(dtype=dtype)
        self._architecture = architecture
        self.norm = _make_norm(architecture, dtype)
        self.dropout = keras.layers.Dropout(architecture.dropout, seed=seed, dtype=dtype)

    def build(self, vectors_shape: tuple[int | None, ...]) -> None:
        """Creates the weights: words [V, H], positions [P, H] and, if there are types, types."""
        del vectors_shape
        sizes = self._architecture
        # Without autocast, which would convert the whole table in each step.
        self.words = self._add_table("words", sizes.vocabulary_size, autocast=False)
        self.positions = self._add_table("positions", sizes.position_count)
        self.types = self._add_table("types", sizes.type_count) if sizes.type_count else None
        self.norm.build((None, None, sizes.hidden_size))

    def _add_table(self, name: str, rows: int, *, autocast: bool = True) -> keras.Variable:
        shape = (rows, self._architecture.hidden_size)
        return self.add_weight(shape, "zeros", name=name, autocast=autocast)

    def look_up(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Returns the word embeddings [B, T, H] of token_ids <int32>[B, T]."""
        return tf.cast(tf.gather(self.words.value, token_ids), self.compute_dtype)

    def call(self, vectors: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the input of the first layer for word embeddings, both [B, T, H]."""
        added = self.positions[: tf.shape(vectors)[1]]
        if self.types is not None:
            added += self.types[0]
        return self.dropout(self.norm(vectors + added), training=training)


class Block(keras.layers.Layer):
    """One layer: attention, then a feed-forward network, each added to its input and normalized."""

    def __init__(
        self, architecture: Architecture, *, name: str, seed: int, dtype: keras.DTypePolicy
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        size, self._head_count = architecture.hidden_size, architecture.head_count
        self._activate = ACTIVATIONS[architecture.activation]
        # Queries, keys and values in one matrix product.
        self.queries_keys_values = _make_dense(3 * size, dtype)
        self.attention_output = _make_dense(size, dtype)
        self.attention_norm = _make_norm(architecture, dtype)
        self.intermediate = _make_dense(architecture.intermediate_size, dtype)
        self.output_dense = _make_dense(size, dtype)
        self.output_norm = _make_norm(architecture, dtype)
        rates = {
            "attention": architecture.attention_dropout,
            "attention_output": architecture.dropout,
            "output": architecture.dropout,
        }
        self.attention_dropout, self.attention_output_dropout, self.output_dropout = (
            keras.layers.Dropout(rate, seed=derive_seed(seed, name), dtype=dtype)
            for name, rate in rates.items()
        )

    def build(self, hidden_shape: tuple[int | None, ...], mask_shape: object = None) -> None:
        """Creates the weights for vectors [B, T, H]."""
        del mask_shape
        for layer in (self.queries_keys_values, self.attention_output, self.attention_norm):
            layer.build(hidden_shape)
        self.intermediate.build(hidden_shape)
        self.output_dense.build((*hidden_shape[:-1], self.intermediate.units))
        self.output_norm.build(hidden_shape)

    def call(self, hidden: tf.Tensor, mask: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the output of this layer, [B, T, H].

        Args:
            hidden: The input of this layer [B, T, H].
            mask: [B, 1, 1, T], added to the attention scores of each token as a key.
            training: Whether dropout is applied.
        """
        attended = self.attention_output(self._attend(hidden, mask, training))
        attended = self.attention_output_dropout(attended, training=training)
        hidden = self.attention_norm(hidden + attended)
        changed = self.output_dense(self._activate(self.intermediate(hidden)))
        return self.output_norm(hidden + self.output_dropout(changed, training=training))

    def _attend(self, hidden: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the attention of each token to all tokens, [B, T, H]."""
        batch, length, size = tf.shape(hidden)[0], tf.shape(hidden)[1], hidden.shape[2]
        head_size = size // self._head_count  # D
        joined = tf.reshape(
            self.queries_keys_values(hidden), [batch, length, 3, self._head_count, head_size]
        )
        queries, keys, values = tf.unstack(
            tf.transpose(joined, [2, 0, 3, 1, 4])
        )  # [B, heads, T, D]
        scores = tf.matmul(queries * head_size**-0.5, keys, transpose_b=True) + mask
        weights = self.attention_dropout(tf.nn.softmax(scores), training=training)
        attended = tf.transpose(tf.matmul(weights, values), [0, 2, 1, 3])  # [B, T, heads, D]
        return tf.reshape(attended, [batch, length, size])


def _make_dense(units: int, dtype: keras.DTypePolicy) -> keras.layers.Dense:
    return keras.layers.Dense(units, kernel_initializer="zeros", dtype=dtype)


def _make_norm(architecture: Architecture, dtype: keras.DTypePolicy) -> keras.layers.Layer:
    return keras.layers.LayerNormalization(epsilon=architecture.epsilon, dtype=dtype)
