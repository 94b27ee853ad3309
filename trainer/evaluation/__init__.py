"""The logits of a split, their metrics, the calibration, and the report."""
