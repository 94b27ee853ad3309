"""Reads the user's files: from bytes to characters to records.

The format of a file (encoding, delimiter, quoting) is detected once for the whole file. These
modules know nothing about labels and splits.
"""
