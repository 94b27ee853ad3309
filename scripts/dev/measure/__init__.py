"""What the commands that measure share: what they measure, processes, JSON files and tables."""
