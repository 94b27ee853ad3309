"""A data set of TensorFlow Datasets (TFDS): its preparation, columns, labels and splits.

`dataset.open_dataset` combines them as a `NamedDataset`.
"""
