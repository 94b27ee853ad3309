"""Commands for the developers of this project: speed, comparisons, screenshots, settings page."""
