"""Helpers that write and read small files of rows."""

import csv
import io

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pipeline.files.file_format import FileFormat
from pipeline.files.records import read_records

ROWS = [(f"text number {number}, with a comma", ("bad", "fine")[number % 2]) for number in range(8)]


NEEDED = ["text", "label"]


def table(rows=ROWS, *, delimiter=",", header=("text", "label"), **options):
    content = io.StringIO(newline="")
    csv.writer(content, delimiter=delimiter, **options).writerows([header, *rows])
    return content.getvalue()


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, file_format=None, needed=NEEDED):
    """Returns the records as tuples of the needed columns, and None for bad rows."""
    found = read_records(path, needed, file_format or FileFormat())
    return [record and tuple(record[name] for name in needed) for _, record in found]


# All tries of a test write to one folder.
IN_ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


FIELDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
