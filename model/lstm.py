"""Runs a Keras LSTM with cuDNN on a GPU, and with a fused operation on a CPU."""

from __future__ import annotations

import collections
import contextlib
import contextvars
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

_is_portable = contextvars.ContextVar("is_portable", default=False)


@contextlib.contextmanager
def without_cudnn() -> Iterator[None]:
    """Keeps cuDNN out of the graphs that are traced in this context.

    A graph that contains cuDNN's kernel cannot run on a CPU.
    """
    token = _is_portable.set(True)
    try:
        yield
    finally:
        _is_portable.reset(token)


def run_lstm(lstm: keras.layers.LSTM, sequences: tf.Tensor) -> tf.Tensor:
    """Runs a Keras LSTM without a mask.

    If there is a GPU, cuDNN's kernel runs. Otherwise, and always within `without_cudnn`,
    TensorFlow's fused LSTM runs, with the gradient defined below. Keras itself would run and
    differentiate a loop with a dozen small operations per time step. The fused LSTM
    computes in float32 under every policy; the matrix products of the gradient have the precision
    of `sequences`.

    Args:
        lstm: A built layer with Keras' default activations and return_sequences.
        sequences: [T, B, D], time-major.

    Returns:
        Outputs [T, B, units].
    """
    dtype, run = sequences.dtype, _fused_lstm
    if not _is_portable.get() and tf.config.list_logical_devices("GPU"):
        run = _cudnn_lstm
        if dtype == tf.bfloat16:  # TensorFlow 2.21 returns gradients of zero for cuDNN's LSTM
            dtype = tf.float32
    weights = (lstm.cell.kernel, lstm.cell.recurrent_kernel, lstm.cell.bias)
    outputs = run(*(tf.cast(tensor, dtype) for tensor in (sequences, *weights)))
    return tf.cast(outputs, sequences.dtype)


def _cudnn_lstm(
    sequences: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """Runs cuDNN's LSTM; see `_fused_lstm` for the arguments.

    Returns:
        Outputs [T, B, U].
    """
    steps, batch_size = tf.shape(sequences)[0], tf.shape(sequences)[1]
    state = tf.zeros([1, batch_size, recurrent_kernel.shape[0]], sequences.dtype)
    weights = [tf.reshape(tf.transpose(weight), [-1]) for weight in (kernel, recurrent_kernel)]
    no_bias = tf.zeros_like(bias)  # cuDNN has a second bias
    return tf.raw_ops.CudnnRNNV3(
        input=sequences,
        input_h=state,
        input_c=state,
        params=tf.concat([*weights, no_bias, bias], axis=0),
        sequence_lengths=tf.fill([batch_size], steps),
        rnn_mode="lstm",
    ).output


# The outputs of TensorFlow's BlockLSTMV2, each <float32>[T, B, U], in its order.
_Activations = collections.namedtuple(
    "_Activations", "input_gates cells forget_gates output_gates candidates tanh_cells outputs"
)


@tf.custom_gradient
def _fused_lstm(
    sequences: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
    """Runs an LSTM (Hochreiter & Schmidhuber, 1997, with forget gates).

    Args:
        sequences: [T, B, D].
        kernel: [D, 4U], for Keras' gates: input, forget, candidate, output.
        recurrent_kernel: [U, 4U].
        bias: [4U].

    Returns:
        Outputs [T, B, U], and the function that computes the gradients of the arguments.
    """
    dtype, units = sequences.dtype, recurrent_kernel.shape[0]
    initial_state = tf.zeros([tf.shape(sequences)[1], units])
    no_peephole = tf.zeros([units])
    activations = _Activations(
        *tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.shape(sequences, tf.int64)[0],
            x=tf.cast(sequences, tf.float32),  # the operation has no bfloat16 kernel
            cs_prev=initial_state,
            h_prev=initial_state,
            w=tf.cast(tf.concat([kernel, recurrent_kernel], axis=0), tf.float32),
            wci=no_peephole,
            wcf=no_peephole,
            wco=no_peephole,
            b=tf.cast(bias, tf.float32),
            cell_clip=0.0,
            use_peephole=False,
        )
    )

    def gradients(output_gradients: tf.Tensor) -> tuple[tf.Tensor, ...]:
        gate_gradients = _backpropagate(activations, output_gradients, recurrent_kernel)
        sequence_gradients = tf.tensordot(gate_gradients, kernel, axes=[[2], [1]])
        kernel_gradient = _sum_of_products(sequences, gate_gradients)
        # The recurrent kernel multiplies the outputs of one time step in the gates of the next.
        previous_outputs = tf.cast(activations.outputs[:-1], dtype)
        recurrent_gradient = _sum_of_products(previous_outputs, gate_gradients[1:])
        bias_gradient = tf.reduce_sum(tf.cast(gate_gradients, tf.float32), axis=[0, 1])
        bias_gradient = tf.cast(bias_gradient, dtype)
        return sequence_gradients, kernel_gradient, recurrent_gradient, bias_gradient

    return tf.cast(activations.outputs, dtype), gradients


def _sum_of_products(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Sums the outer products of [T, B, M] and [T, B, N] over T and B: [M, N].

    tf.tensordot would copy a transpose first.
    """
    left, right = (tf.reshape(tensor, [-1, tensor.shape[-1]]) for tensor in (left, right))
    return tf.matmul(left, right, transpose_a=True)


def _backpropagate(
    activations: _Activations, output_gradients: tf.Tensor, recurrent_kernel: tf.Tensor
) -> tf.Tensor:
    """Backpropagates through time, with as few operations per time step as possible.

    From the gradients of the outputs [T, B, U] and the recurrent kernel [U, 4U], it computes the
    gradients of the gates before their activation functions, [T, B, 4U].
    """
    sigmoid_gradient, tanh_gradient = tf.raw_ops.SigmoidGrad, tf.raw_ops.TanhGrad
    previous_cells = tf.pad(activations.cells[:-1], [[1, 0], [0, 0], [0, 0]])
    transposed_kernel = tf.transpose(recurrent_kernel)
    dtype, length = output_gradients.dtype, tf.shape(output_gradients)[0]
    zeros = tf.zeros_like(activations.outputs[0])

    def step_back(
        t: tf.Tensor, output_gradient: tf.Tensor, cell_gradient: tf.Tensor, written: tf.TensorArray
    ) -> tuple[tf.Tensor | tf.TensorArray, ...]:
        input_gate, forget_gate = activations.input_gates[t], activations.forget_gates[t]
        output_gate = activations.output_gates[t]
        candidate, tanh_cell = activations.candidates[t], activations.tanh_cells[t]
        output_gradient += tf.cast(output_gradients[t], tf.float32)
        cell_gradient += tanh_gradient(y=tanh_cell, dy=output_gradient * output_gate)
        gate_gradient = tf.concat(
            [
                sigmoid_gradient(y=input_gate, dy=cell_gradient * candidate),
                sigmoid_gradient(y=forget_gate, dy=cell_gradient * previous_cells[t]),
                tanh_gradient(y=candidate, dy=cell_gradient * input_gate),
                sigmoid_gradient(y=output_gate, dy=output_gradient * tanh_cell),
            ],
            axis=1,
        )
        gate_gradient = tf.cast(gate_gradient, dtype)
        output_gradient = tf.cast(tf.matmul(gate_gradient, transposed_kernel), tf.float32)
        return t - 1, output_gradient, cell_gradient * forget_gate, written.write(t, gate_gradient)

    empty = tf.TensorArray(dtype, size=length, element_shape=[None, transposed_kernel.shape[0]])
    *_, gate_gradients = tf.while_loop(
        lambda t, *_: t >= 0, step_back, (length - 1, zeros, zeros, empty)
    )
    return gate_gradients.stack()
