"""The losses of a training batch, soft labels, and the validation after an epoch.

May import `trainer.evaluation`, `trainer.monitoring`, `trainer.runtime` and `trainer.config`.
"""
