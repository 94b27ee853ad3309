"""imdb_offline: real IMDB reviews from a package on PyPI, as a TFDS data set."""
