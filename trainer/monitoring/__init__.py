"""TensorBoard's events, history.csv, the progress bar and the profiler.

May import `trainer.runtime` and `trainer.config`.
"""
