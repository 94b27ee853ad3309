"""What training minimizes: the losses of a batch, and the labels that they compare with.

May import `trainer.evaluation`, `trainer.monitoring`, `trainer.runtime` and `trainer.config`.
"""
