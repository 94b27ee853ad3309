"""From token ids to logits: by an embedding and an encoder, by n-grams, or by several of them."""

# Each encoder that --encoder knows, and its class in model/encoders.py. Kept here so that --help
# imports nothing heavy.
ENCODERS: dict[str, str] = {
    "stacked_lstm": "StackedLSTM",
    "pooled_lstm": "PooledLSTM",
}
