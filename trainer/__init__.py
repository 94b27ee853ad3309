"""From batches to a trained model: settings, devices, the loop, checkpoints, records."""

__version__ = "0.2.0"
