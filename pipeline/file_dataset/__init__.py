"""A data set in the user's files: from records to checked rows, labels and splits.

It builds on `pipeline.files` and has the interface of `pipeline.datasets.NamedDataset`.
"""
