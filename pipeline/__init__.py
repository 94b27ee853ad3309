"""From texts to batches of token ids: data sets, vocabulary, cached splits, batches.

Read the modules in this order: `datasets`, `text`, `vocabulary`, `corpus`, `batches`. This package
imports neither `model` nor `trainer`.
"""

# The data sets that --help lists, and the module whose import registers the TFDS builder (None: the
# builder is in tensorflow-datasets). It is here so that --help need not import TensorFlow.
DATASETS: dict[str, str | None] = {
    "imdb_reviews": None,
    "imdb_offline": "pipeline.imdb_offline.imdb_offline_dataset_builder",
}
