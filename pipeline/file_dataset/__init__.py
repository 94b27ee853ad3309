"""A data set in the user's files or in memory: from records to checked rows, labels and splits.

It builds on `pipeline.files`. `RowDataset` has the interface of `NamedDataset`.
"""
