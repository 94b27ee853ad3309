"""A data set of TensorFlow Datasets (TFDS): its preparation, columns, labels and splits.

`pipeline.datasets.open_dataset` combines them as a `NamedDataset`.
"""
