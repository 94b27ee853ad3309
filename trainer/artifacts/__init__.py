"""What a run keeps in its folder, and how it is used again: checkpoints, config.json, exports.

May import `trainer.building` and everything that `building` may import.
"""
