"""Tools for developers: benchmarks, comparisons, TensorBoard screenshots, the settings page."""
