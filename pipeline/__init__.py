"""From texts to batches of token ids: a data set, its vocabulary, its cached splits, its batches.

A reader follows `datasets`, `text`, `vocabulary`, `corpus`, `batches` in this order. This package
imports neither `model` nor `trainer`.
"""

# Each data set that --dataset knows, and the module whose TFDS builder registers it
# (None: the builder comes with tensorflow-datasets). Here, so that --help imports nothing heavy.
DATASETS: dict[str, str | None] = {
    "imdb_reviews": None,
    "imdb_offline": "pipeline.imdb_offline.imdb_offline_dataset_builder",
}
