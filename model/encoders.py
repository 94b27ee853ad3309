"""What stands between the embedding and the logit, one class each.

An encoder is a Keras layer that is called with (embedded [B, T, E], lengths <int32>[B]), and with
`training` if its `call` has such an argument, and answers [B, D]. Row b has `lengths[b]` real
tokens, at least one, then padding, which must not change the answer. It is built with `units`,
`seed` and `dtype`; `derive_seed` gives each use of random numbers its own seed.
"""

from __future__ import annotations

import importlib
from typing import Any

import keras
import tensorflow as tf

from model import ENCODERS
from model.lstm import outputs_over_time
from model.seeds import derive_seed

_LONGEST_MEMORY = 100.0  # tokens


class ChronoInitializer(keras.initializers.Initializer):
    """Biases of an LSTM whose units remember for 1 to `longest` steps, as is drawn for each.

    With u uniform between 1 and `longest`, the forget gate's bias is log u and the input gate's
    -log u (Tallec & Ollivier, Can recurrent neural networks warp time?, ICLR 2018). With Keras' own
    biases a unit forgets within a few words, and whole epochs may pass before training finds out.
    """

    def __init__(self, longest: float, *, seed: int) -> None:
        self._longest = longest
        self._seed = seed

    def __call__(self, shape: tuple[int], dtype: str | None = None) -> tf.Tensor:
        """Makes the biases [4 * units] of Keras' gates: input, forget, cell, output."""
        units = shape[0] // 4
        steps = keras.random.uniform([units], 1.0, self._longest, dtype=dtype, seed=self._seed)
        zeros = keras.ops.zeros([2 * units], dtype=dtype)
        forget = keras.ops.log(steps)
        return keras.ops.concatenate([-forget, forget, zeros])


class StackedLSTM(keras.layers.Layer):
    """Two LSTMs (Hochreiter & Schmidhuber, 1997), the second of half the units; answers its last.

    An LSTM reads left to right and padding stands on the right, so what it gives at a review's
    last token is what it would give without padding. Picking that output needs no mask in the
    recurrence, which costs a select a step on a CPU and a check of every mask on a GPU.
    The layers hold Keras' weights; `model/lstm.py` runs them.
    """

    def __init__(self, *, units: int, seed: int, dtype: keras.DTypePolicy) -> None:
        super().__init__(dtype=dtype)
        self.lstms = [
            keras.layers.LSTM(
                size,
                return_sequences=True,
                bias_initializer=ChronoInitializer(
                    _LONGEST_MEMORY, seed=derive_seed(seed, f"lstm_{i}/bias")
                ),
                unit_forget_bias=False,
                dtype=dtype,
                **_random_kernels(derive_seed(seed, f"lstm_{i}")),
            )
            for i, size in enumerate((units, max(1, units // 2)))
        ]

    def build(self, embedded_shape: tuple[int | None, ...], lengths_shape: tuple[int, ...]) -> None:
        """Makes the weights for embedded [B, T, E]."""
        del lengths_shape
        for lstm in self.lstms:
            lstm.build(embedded_shape)
            embedded_shape = (*embedded_shape[:-1], lstm.units)

    def call(self, embedded: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Encodes [B, T, E] with lengths [B] as [B, units / 2]."""
        last = tf.stack([lengths - 1, tf.range(tf.size(lengths))], axis=1)  # [B, 2]
        return tf.gather_nd(self.over_time(embedded), last)

    def over_time(self, embedded: tf.Tensor) -> tf.Tensor:
        """Returns the outputs [T, B, units / 2] of the second LSTM."""
        outputs = tf.transpose(embedded, [1, 0, 2])
        for lstm in self.lstms:
            outputs = outputs_over_time(lstm, outputs)
        return outputs


class PooledLSTM(keras.layers.Layer):
    """An LSTM; answers the maximum and the mean of each unit over a review.

    Every word is one pooling away from the logit, and what stood at the beginning need not be
    remembered to the end (Johnson & Zhang, Supervised and semi-supervised text categorization using
    LSTM for region embeddings, ICML 2016).
    """

    def __init__(self, *, units: int, seed: int, dtype: keras.DTypePolicy) -> None:
        super().__init__(dtype=dtype)
        self.lstm = keras.layers.LSTM(
            units,
            return_sequences=True,
            dtype=dtype,
            **_random_kernels(derive_seed(seed, "lstm")),
        )

    def build(self, embedded_shape: tuple[int | None, ...], lengths_shape: tuple[int, ...]) -> None:
        """Makes the weights for embedded [B, T, E]."""
        del lengths_shape
        self.lstm.build(embedded_shape)

    def call(self, embedded: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Encodes [B, T, E] with lengths [B] as [B, 2 * units]."""
        outputs = self.over_time(embedded)
        is_token = tf.sequence_mask(lengths, tf.shape(outputs)[0], dtype=outputs.dtype)  # [B, T]
        is_token = tf.transpose(is_token)[..., tf.newaxis]
        # Outputs are between -1 and 1, so that padding, at -2, is never the maximum.
        largest = tf.reduce_max(outputs * is_token - 2 * (1 - is_token), axis=0)
        mean = tf.reduce_sum(outputs * is_token, axis=0) / tf.reduce_sum(is_token, axis=0)
        return tf.concat([largest, mean], axis=1)

    def over_time(self, embedded: tf.Tensor) -> tf.Tensor:
        """Returns the outputs [T, B, units] of the LSTM."""
        return outputs_over_time(self.lstm, tf.transpose(embedded, [1, 0, 2]))


def _random_kernels(seed: int) -> dict[str, Any]:
    """Returns the initializers and the seed of a Keras LSTM, each with its own random stream."""
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
    """Makes the encoder that `model.ENCODERS` lists under this name."""
    module, _, class_name = ENCODERS[name].partition(":")
    encoder = getattr(importlib.import_module(module), class_name)
    return encoder(units=units, seed=seed, dtype=dtype)
