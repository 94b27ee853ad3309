"""Encoders: from the embedded tokens of an example to one vector.

An encoder is a Keras layer. Its constructor takes `units`, `seed` and `dtype`. Its `call` takes
embedded tokens [B, T, E] and lengths <int32>[B], and optionally `training`. It returns [B, D].

Row b has `lengths[b]` tokens, at least one, then padding, which must not change the result. Each
random initializer gets a separate seed from `derive_seed`.
"""

from __future__ import annotations

import importlib
from typing import Any

import keras
import tensorflow as tf

from model import ENCODERS
from model.lstm import run_lstm
from model.seeds import derive_seed

_MAX_MEMORY = 100.0  # tokens


class ChronoInitializer(keras.initializers.Initializer):
    """Initializes the biases of an LSTM so that its units remember for different numbers of steps.

    For each unit, the number of steps u is drawn uniformly between 1 and `longest`.
    The bias of its forget gate is log u, and that of its input gate is -log u (Tallec & Ollivier,
    Can recurrent neural networks warp time?, ICLR 2018). With Keras' default biases, a unit forgets
    within a few tokens, and training may need whole epochs to change that.
    """

    def __init__(self, longest: float, *, seed: int) -> None:
        self._longest = longest
        self._seed = seed

    def __call__(self, shape: tuple[int], dtype: str | None = None) -> tf.Tensor:
        """Returns the biases [4 * units] of Keras' gates: input, forget, candidate, output."""
        units = shape[0] // 4
        steps = keras.random.uniform([units], 1.0, self._longest, dtype=dtype, seed=self._seed)
        zeros = keras.ops.zeros([2 * units], dtype=dtype)
        forget = keras.ops.log(steps)
        return keras.ops.concatenate([-forget, forget, zeros])


class StackedLSTM(keras.layers.Layer):
    """Encodes a text as the last output of two stacked LSTMs (Hochreiter & Schmidhuber, 1997).

    The second LSTM has half the units. An LSTM reads from left to right, and padding is on the
    right, so padding cannot change the output at the last token, and no mask is needed. A mask
    would cost one more operation per time step on a CPU, and a check of every mask on a GPU.

    The Keras layers hold the weights; `model/lstm.py` runs them.
    """

    def __init__(self, *, units: int, seed: int, dtype: keras.DTypePolicy) -> None:
        super().__init__(dtype=dtype)
        self.lstms = [
            keras.layers.LSTM(
                size,
                return_sequences=True,
                bias_initializer=ChronoInitializer(
                    _MAX_MEMORY, seed=derive_seed(seed, f"lstm_{i}/bias")
                ),
                unit_forget_bias=False,
                dtype=dtype,
                **_seeded_arguments(derive_seed(seed, f"lstm_{i}")),
            )
            for i, size in enumerate((units, max(1, units // 2)))
        ]

    def build(self, embedded_shape: tuple[int | None, ...], lengths_shape: tuple[int, ...]) -> None:
        """Creates the weights for embedded tokens [B, T, E]."""
        del lengths_shape
        for lstm in self.lstms:
            lstm.build(embedded_shape)
            embedded_shape = (*embedded_shape[:-1], lstm.units)

    def call(self, embedded: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Encodes embedded tokens [B, T, E] with lengths [B] as [B, units / 2]."""
        last = tf.stack([lengths - 1, tf.range(tf.size(lengths))], axis=1)  # [B, 2]
        outputs = tf.transpose(embedded, [1, 0, 2])  # [T, B, E]
        for lstm in self.lstms:
            outputs = run_lstm(lstm, outputs)
        return tf.gather_nd(outputs, last)


class PooledLSTM(keras.layers.Layer):
    """Encodes a text as the maximum and the mean over time of the outputs of an LSTM.

    Pooling connects each token directly to the logit, so the LSTM need not remember the first
    tokens until the end of the text (Johnson & Zhang, Supervised and semi-supervised text
    categorization using LSTM for region embeddings, ICML 2016).
    """

    def __init__(self, *, units: int, seed: int, dtype: keras.DTypePolicy) -> None:
        super().__init__(dtype=dtype)
        self.lstm = keras.layers.LSTM(
            units,
            return_sequences=True,
            dtype=dtype,
            **_seeded_arguments(derive_seed(seed, "lstm")),
        )

    def build(self, embedded_shape: tuple[int | None, ...], lengths_shape: tuple[int, ...]) -> None:
        """Creates the weights for embedded tokens [B, T, E]."""
        del lengths_shape
        self.lstm.build(embedded_shape)

    def call(self, embedded: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Encodes embedded tokens [B, T, E] with lengths [B] as [B, 2 * units]."""
        outputs = run_lstm(self.lstm, tf.transpose(embedded, [1, 0, 2]))  # [T, B, units]
        is_token = tf.sequence_mask(lengths, tf.shape(outputs)[0], dtype=outputs.dtype)  # [B, T]
        is_token = tf.transpose(is_token)[..., tf.newaxis]  # [T, B, 1]
        # Outputs are between -1 and 1, so padding, which becomes -2, is never the maximum.
        largest = tf.reduce_max(outputs * is_token - 2 * (1 - is_token), axis=0)
        mean = tf.reduce_sum(outputs * is_token, axis=0) / tf.reduce_sum(is_token, axis=0)
        return tf.concat([largest, mean], axis=1)


def _seeded_arguments(seed: int) -> dict[str, Any]:
    """Returns the arguments of a Keras LSTM that use random numbers, each with a separate seed."""
    return {
        "kernel_initializer": keras.initializers.GlorotUniform(seed=derive_seed(seed, "kernel")),
        "recurrent_initializer": keras.initializers.Orthogonal(
            seed=derive_seed(seed, "recurrent_kernel")
        ),
        "seed": derive_seed(seed, "dropout"),
    }


def make_encoder(
    name: str, *, units: int, seed: int, dtype: keras.DTypePolicy
) -> keras.layers.Layer:
    """Makes the encoder with this name in `model.ENCODERS`."""
    module, _, class_name = ENCODERS[name].partition(":")
    encoder = getattr(importlib.import_module(module), class_name)
    return encoder(units=units, seed=seed, dtype=dtype)
