"""Commands for the developers of this project: speed, comparisons, settings page."""
