"""Keras' LSTM, made fast on a CPU: the same weights and the same numbers."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

_is_portable = contextvars.ContextVar("is_portable", default=False)


@contextlib.contextmanager
def without_cudnn() -> Iterator[None]:
    """Makes graphs that are traced in this context run on any device.

    cuDNN's kernel runs only on GPUs, so a graph that contains it cannot run on a CPU.
    """
    token = _is_portable.set(True)
    try:
        yield
    finally:
        _is_portable.reset(token)


def outputs_over_time(lstm: keras.layers.LSTM, sequences: tf.Tensor) -> tf.Tensor:
    """Runs a Keras LSTM without a mask: by cuDNN's kernel where there is a GPU, else by ours.

    Within `without_cudnn`, ours is always used.

    Ours is TensorFlow's fused LSTM with a gradient of our own, where Keras has a loop of a dozen
    small operations a step and differentiates that. It goes forward in float32 under any policy;
    the products of its gradient are in the precision of the sequences.

    Args:
        lstm: Built, with Keras' own activations and return_sequences.
        sequences: [T, B, D], time first, as the recurrence reads them.

    Returns:
        [T, B, units].
    """
    if not _is_portable.get() and tf.config.list_logical_devices("GPU"):
        outputs = lstm(tf.transpose(sequences, [1, 0, 2]))
        return tf.transpose(outputs, [1, 0, 2])
    weights = (lstm.cell.kernel, lstm.cell.recurrent_kernel, lstm.cell.bias)
    return _lstm(sequences, *(tf.cast(weight, sequences.dtype) for weight in weights))


@tf.custom_gradient
def _lstm(
    sequences: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
    """Runs an LSTM (Hochreiter & Schmidhuber, 1997, with forget gates).

    Args:
        sequences: [T, B, D].
        kernel: [D, 4U], for Keras' gates: input, forget, candidate, output.
        recurrent_kernel: [U, 4U].
        bias: [4U].

    Returns:
        Outputs [T, B, U], and their gradient.
    """
    dtype, units = sequences.dtype, recurrent_kernel.shape[0]
    start = tf.zeros([tf.shape(sequences)[1], units])
    no_peephole = tf.zeros([units])
    kept = tf.raw_ops.BlockLSTMV2(
        seq_len_max=tf.shape(sequences, tf.int64)[0],
        x=tf.cast(sequences, tf.float32),  # it knows no bfloat16
        cs_prev=start,
        h_prev=start,
        w=tf.cast(tf.concat([kernel, recurrent_kernel], axis=0), tf.float32),
        wci=no_peephole,
        wcf=no_peephole,
        wco=no_peephole,
        b=tf.cast(bias, tf.float32),
        cell_clip=0.0,
        use_peephole=False,
    )

    def gradient(by_outputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        by_gates = _gradient_over_time(kept, by_outputs, recurrent_kernel)  # [T, B, 4U]
        by_sequences = tf.tensordot(by_gates, kernel, axes=[[2], [1]])
        by_kernel = _summed_products(sequences, by_gates)
        # Outputs of one step meet the gates of the next.
        by_recurrent = _summed_products(tf.cast(kept.h[:-1], dtype), by_gates[1:])
        by_bias = tf.reduce_sum(tf.cast(by_gates, tf.float32), axis=[0, 1])
        return by_sequences, by_kernel, by_recurrent, tf.cast(by_bias, dtype)

    return tf.cast(kept.h, dtype), gradient


def _summed_products(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Multiplies [T, B, M] by [T, B, N] to [M, N]; tf.tensordot would transpose a copy first."""
    left, right = (tf.reshape(tensor, [-1, tensor.shape[-1]]) for tensor in (left, right))
    return tf.matmul(left, right, transpose_a=True)


def _gradient_over_time(
    kept: tuple[tf.Tensor, ...], by_outputs: tf.Tensor, recurrent_kernel: tf.Tensor
) -> tf.Tensor:
    """Goes back through time, with as few operations a step as it takes.

    Args:
        kept: What the fused LSTM answers: [T, B, U] each, the gates i, f, o and the candidate ci
            after their nonlinearities, the cells cs, their tanh co, and the outputs.
        by_outputs: The gradient by the outputs, [T, B, U].
        recurrent_kernel: [U, 4U].

    Returns:
        The gradient by what goes into the gates, [T, B, 4U].
    """
    through_sigmoid, through_tanh = tf.raw_ops.SigmoidGrad, tf.raw_ops.TanhGrad
    cells_before = tf.pad(kept.cs[:-1], [[1, 0], [0, 0], [0, 0]])
    back_kernel = tf.transpose(recurrent_kernel)
    dtype, length = by_outputs.dtype, tf.shape(by_outputs)[0]
    start = tf.zeros_like(kept.h[0])

    def step_back(
        t: tf.Tensor, by_output: tf.Tensor, by_cell: tf.Tensor, by_gates_at: tf.TensorArray
    ) -> tuple[tf.Tensor | tf.TensorArray, ...]:
        input_gate, forget_gate, output_gate = kept.i[t], kept.f[t], kept.o[t]
        candidate, squashed = kept.ci[t], kept.co[t]
        by_output += tf.cast(by_outputs[t], tf.float32)
        by_cell += through_tanh(y=squashed, dy=by_output * output_gate)
        by_gates = tf.concat(
            [
                through_sigmoid(y=input_gate, dy=by_cell * candidate),
                through_sigmoid(y=forget_gate, dy=by_cell * cells_before[t]),
                through_tanh(y=candidate, dy=by_cell * input_gate),
                through_sigmoid(y=output_gate, dy=by_output * squashed),
            ],
            axis=1,
        )
        by_gates = tf.cast(by_gates, dtype)
        by_output = tf.cast(tf.matmul(by_gates, back_kernel), tf.float32)
        return t - 1, by_output, by_cell * forget_gate, by_gates_at.write(t, by_gates)

    empty = tf.TensorArray(dtype, size=length, element_shape=[None, back_kernel.shape[0]])
    *_, by_gates_at = tf.while_loop(
        lambda t, *_: t >= 0, step_back, (length - 1, start, start, empty)
    )
    return by_gates_at.stack()
