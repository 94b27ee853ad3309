"""The measurements of scripts.dev.benchmark, by subject.

`workload` has what they share: the examples, and a training loop. Each measurement is a function
of the settings that returns values by name. These modules import TensorFlow only inside functions.
"""
