"""How good a model is: its logits on a split, figures of them, calibration, and the report.

May import `trainer.monitoring`, `trainer.runtime` and `trainer.config`.
"""
