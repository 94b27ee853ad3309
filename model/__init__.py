"""From token ids to logits: the classifier, its scorers, and their encoders.

This package imports neither `pipeline` nor `trainer`.
"""

# The module and the class of each encoder that --encoder accepts. They are listed here, not in
# encoders.py, because --help must not import TensorFlow.
ENCODERS: dict[str, str] = {
    "stacked_lstm": "model.encoders:StackedLSTM",
    "pooled_lstm": "model.encoders:PooledLSTM",
}
