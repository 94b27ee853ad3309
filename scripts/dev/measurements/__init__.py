"""The measurements of scripts.dev.benchmark, by subject.

Each measurement is a function of the settings that returns values by name. `workload` prepares the
examples and the training loop. These modules import TensorFlow only inside functions.
"""
