"""Reads the user's files: bytes become characters, and characters become records.

The format (encoding, delimiter, quoting) is detected once for each file. These modules do not
depend on labels and splits.
"""
