"""Devices, replicas, signals, locks, and files that are written completely or not at all.

May import `trainer.config`.
"""
