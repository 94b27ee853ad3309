"""A data set in the user's files: from records to checked rows, labels and splits.

It builds on `pipeline.files`. `FileDataset` has the interface `pipeline.datasets.NamedDataset`.
"""
