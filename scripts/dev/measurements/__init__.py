"""The measurements of scripts.dev.benchmark.

Each measurement is a function that takes the settings and returns values by name. `workload`
prepares the examples and the training loop. These modules import TensorFlow only inside functions.
"""
