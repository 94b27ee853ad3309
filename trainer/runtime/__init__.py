"""Where and how a process runs: devices, replicas, signals, locks, and files that are never half.

May import `trainer.config`.
"""
