"""From token ids to logits: an embedding, an encoder, a logit."""

# Each encoder that --encoder knows, and its class in model/encoders.py. Kept here so that --help
# imports nothing heavy.
ENCODERS: dict[str, str] = {
    "stacked_lstm": "StackedLSTM",
}
