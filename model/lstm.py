"""Keras' LSTM with a recurrence that a CPU runs faster; the same weights and the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf


def outputs_over_time(
    lstm: keras.layers.LSTM, sequences: tf.Tensor, *, training: bool
) -> tf.Tensor:
    """Runs a Keras LSTM without a mask: by cuDNN's kernel where there is a GPU, else by our own.

    Ours projects the input of all steps by one product before the recurrence, and has its gradient
    written out: the recurrence keeps its gates, and the gradient of the recurrent weights is one
    product after it. One product and a few gates are left to each step, where differentiating
    Keras' loop leaves several. Inference needs none of it and has an op of TensorFlow's.

    Args:
        lstm: Built, with Keras' own activations and return_sequences.
        sequences: [T, B, D], time first, as the recurrence reads them.
        training: Whether a gradient will be asked for.

    Returns:
        [T, B, units].
    """
    if tf.config.list_logical_devices("GPU"):
        outputs = lstm(tf.transpose(sequences, [1, 0, 2]))
        return tf.transpose(outputs, [1, 0, 2])
    weights = (lstm.cell.kernel, lstm.cell.recurrent_kernel, lstm.cell.bias)
    run = _learning if training else _inferring
    return run(sequences, *(tf.cast(weight, sequences.dtype) for weight in weights))


def _learning(
    sequences: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    kernel, recurrent_kernel, bias = map(_gates_together, (kernel, recurrent_kernel, bias))
    projected = tf.tensordot(sequences, kernel, axes=1) + bias  # [T, B, 4 * units]
    return _differentiable(projected, recurrent_kernel)


@tf.custom_gradient
def _inferring(
    sequences: tf.Tensor, *weights: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
    """Runs TensorFlow's fused LSTM, in float32: it knows no bfloat16."""
    kernel, recurrent_kernel, bias = (tf.cast(weight, tf.float32) for weight in weights)
    units = recurrent_kernel.shape[0]
    start = tf.zeros([tf.shape(sequences)[1], units])
    no_peephole = tf.zeros([units])
    outputs = tf.raw_ops.BlockLSTMV2(
        seq_len_max=tf.shape(sequences, tf.int64)[0],
        x=tf.cast(sequences, tf.float32),
        cs_prev=start,
        h_prev=start,
        w=tf.concat([kernel, recurrent_kernel], axis=0),
        wci=no_peephole,
        wcf=no_peephole,
        wco=no_peephole,
        b=bias,
        cell_clip=0.0,
        use_peephole=False,
    ).h

    def gradient(by_outputs: tf.Tensor) -> list[tf.Tensor]:
        """Runs it again: the gradient that TensorFlow 2.21 has for this op is not exact."""
        with tf.GradientTape() as tape:
            tape.watch([sequences, *weights])
            again = _learning(sequences, *weights)
        return tape.gradient(again, [sequences, *weights], by_outputs)

    return tf.cast(outputs, sequences.dtype), gradient


def _gates_together(weights: tf.Tensor) -> tf.Tensor:
    """Reorders Keras' gates, input, forget, cell, output, so that the three sigmoids are one."""
    input_gate, forget_gate, cell, output_gate = tf.split(weights, 4, axis=-1)
    return tf.concat([input_gate, forget_gate, output_gate, cell], axis=-1)


def _recurrence(
    projected: tf.Tensor, recurrent_kernel: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Runs an LSTM (Hochreiter & Schmidhuber, 1997, with forget gates) over projected inputs.

    Args:
        projected: [T, B, 4U], what the inputs give to the gates input, forget, output and cell.
        recurrent_kernel: [U, 4U], in the same order.

    Returns:
        Outputs [T, B, U]; cells [T, B, U]; gates [T, B, 4U], after their nonlinearities.
    """
    units = recurrent_kernel.shape[0]
    length = tf.shape(projected)[0]
    start = tf.zeros_like(projected[0, :, :units])  # [B, U]

    def step(
        t: tf.Tensor, output: tf.Tensor, cell: tf.Tensor, *arrays: tf.TensorArray
    ) -> tuple[tf.Tensor | tf.TensorArray, ...]:
        gates = projected[t] + tf.matmul(output, recurrent_kernel)
        sigmoids = tf.sigmoid(gates[:, : 3 * units])
        candidate = tf.tanh(gates[:, 3 * units :])
        input_gate, forget_gate, output_gate = tf.split(sigmoids, 3, axis=1)
        cell = forget_gate * cell + input_gate * candidate
        output = output_gate * tf.tanh(cell)
        answers = (output, cell, tf.concat([sigmoids, candidate], axis=1))
        written = [array.write(t, x) for array, x in zip(arrays, answers, strict=True)]
        return t + 1, output, cell, *written

    empty = [_empty(projected.dtype, length, width) for width in (units, units, 4 * units)]
    _, _, _, *arrays = tf.while_loop(lambda t, *_: t < length, step, (0, start, start, *empty))
    outputs, cells, gates = (array.stack() for array in arrays)
    return outputs, cells, gates


@tf.custom_gradient
def _differentiable(
    projected: tf.Tensor, recurrent_kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """Runs `_recurrence` for its outputs, with their gradient by both arguments written out."""
    outputs, cells, gates = _recurrence(projected, recurrent_kernel)
    length, units = tf.shape(outputs)[0], recurrent_kernel.shape[0]
    start = tf.zeros_like(outputs[0])

    def gradient(by_outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        cells_from_start = tf.concat([start[tf.newaxis], cells], axis=0)  # [T + 1, B, U]
        back_kernel = tf.transpose(recurrent_kernel)

        def step_back(
            t: tf.Tensor, by_output: tf.Tensor, by_cell: tf.Tensor, by_gates_at: tf.TensorArray
        ) -> tuple[tf.Tensor | tf.TensorArray, ...]:
            by_output = by_output + by_outputs[t]
            input_gate, forget_gate, output_gate, candidate = tf.split(gates[t], 4, axis=1)
            squashed = tf.tanh(cells_from_start[t + 1])
            by_cell = by_cell + by_output * output_gate * (1 - squashed * squashed)
            by_gates = tf.concat(
                [
                    by_cell * candidate * input_gate * (1 - input_gate),
                    by_cell * cells_from_start[t] * forget_gate * (1 - forget_gate),
                    by_output * squashed * output_gate * (1 - output_gate),
                    by_cell * input_gate * (1 - candidate * candidate),
                ],
                axis=1,
            )
            by_output = tf.matmul(by_gates, back_kernel)
            return t - 1, by_output, by_cell * forget_gate, by_gates_at.write(t, by_gates)

        *_, by_gates_at = tf.while_loop(
            lambda t, *_: t >= 0,
            step_back,
            (length - 1, start, start, _empty(projected.dtype, length, 4 * units)),
        )
        by_gates = by_gates_at.stack()
        # Outputs of one step meet the gates of the next.
        by_kernel = tf.tensordot(outputs[:-1], by_gates[1:], axes=[[0, 1], [0, 1]])
        return by_gates, by_kernel

    return outputs, gradient


def _empty(dtype: tf.DType, length: tf.Tensor, width: int) -> tf.TensorArray:
    """Makes an array of `length` steps, each to be [B, width]."""
    return tf.TensorArray(dtype, size=length, element_shape=[None, width])
