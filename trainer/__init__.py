"""From batches to a trained model: settings, devices, the loop, checkpoints, records."""
