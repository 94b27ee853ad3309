"""The losses of a training batch, soft labels, and the validation after an epoch."""
