"""A TFDS data set, imdb_offline: real IMDB reviews from a package on PyPI."""
