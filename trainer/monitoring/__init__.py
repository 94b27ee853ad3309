"""TensorBoard's events, history.csv, the progress bar and the profiler."""
