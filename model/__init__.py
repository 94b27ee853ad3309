"""From token ids to logits: the classifier, its scorers, and their encoders.

Nothing here knows where token ids come from, or how weights are trained: this package imports
neither `pipeline` nor `trainer`.
"""

# The encoders that --encoder accepts: the module and the class of each. They are listed here, and
# not in encoders.py, because --help must not import TensorFlow.
ENCODERS: dict[str, str] = {
    "stacked_lstm": "model.encoders:StackedLSTM",
    "pooled_lstm": "model.encoders:PooledLSTM",
}
