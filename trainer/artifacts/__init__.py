"""The files of a run: checkpoints, config.json, the trained model and its export.

May import `trainer.building` and everything that `building` may import.
"""
