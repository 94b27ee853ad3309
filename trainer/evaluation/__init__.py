"""The logits of a split, their metrics, the calibration, and the report.

May import `trainer.monitoring`, `trainer.runtime` and `trainer.config`.
"""
