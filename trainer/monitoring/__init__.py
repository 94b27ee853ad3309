"""Monitoring: TensorBoard, history.csv, the progress bar and the profiler.

The modules here report values; they do not run the model. `Monitor` is their only caller in the
training loop. May import `trainer.runtime` and `trainer.config`.
"""
