"""Code that the commands share: flags, help, exit codes, standard streams, and predict's output.

These modules import TensorFlow only inside functions, so that `--help` and flag errors are fast.
"""
