"""Commands for the developers of this project: speed, comparisons, pictures and pages."""
