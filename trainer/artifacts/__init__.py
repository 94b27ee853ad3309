"""The files of a run: checkpoints, config.json, the trained model and its export."""
