"""--label_map merges and renames the labels of the user's files."""

import dataclasses

import pytest

from pipeline.errors import UserError
from pipeline.file_dataset.dataset import RowSettings
from pipeline.file_dataset.sources import FileSource
from tests.pipeline.file_dataset.test_file_dataset import NAMES, opened, read, write_csv

STARS = [(f"text {n}", str(n % 5 + 1)) for n in range(200)]
MAP = {"1": "neg", "2": "neg", "4": "pos", "5": "pos"}


def test_a_label_map_merges_and_renames_labels(tmp_path):
    path = write_csv(tmp_path / "a.csv", STARS)
    files, mapped = opened(path), opened(path, label_map=MAP)
    assert mapped.label_names == ("3", "neg", "pos")
    found = sorted(row for split in ("train", "validation", "test") for row in read(mapped, split))
    assert found == sorted(
        (text, mapped.label_names.index(MAP.get(label, label))) for text, label in STARS
    )
    again = opened(path, label_map=MAP, label_names=("pos", "3", "neg"))
    assert again.label_names == ("pos", "3", "neg")
    identities = [str(each.identity) for each in (files, mapped, again)]
    assert len({files.fingerprint, mapped.fingerprint}) == 2
    assert len(set(identities)) == 3
    with pytest.raises(UserError, match="positive_label='neg' is for two labels"):
        opened(path, label_map=MAP, positive_label="neg")
    two = opened(path, label_map={**MAP, "3": "neg"}, positive_label="neg")
    assert two.label_names == ("pos", "neg")


def test_a_changed_label_map_does_not_parse_the_files_again(tmp_path):
    settings = RowSettings(*NAMES)
    source = FileSource(str(write_csv(tmp_path / "a.csv", STARS)), settings)
    mapped = FileSource(source.name, dataclasses.replace(settings, label_map=MAP))
    assert mapped.key == source.key


def test_swapped_names_are_other_data(tmp_path):
    path = write_csv(tmp_path / "a.csv")
    one, other = (
        opened(path, label_map=m) for m in ({"bad": "x", "fine": "y"}, {"bad": "y", "fine": "x"})
    )
    assert one.label_names == other.label_names
    assert one.fingerprint != other.fingerprint
    assert one.class_counts("train") == other.class_counts("train")[::-1]


def test_a_label_map_must_name_labels_and_leave_two(tmp_path):
    path = write_csv(tmp_path / "a.csv", STARS)
    with pytest.raises(UserError, match=r"names '6', but the labels of .* are '1', '2', '3', '4'"):
        opened(path, label_map={"1": "neg", "6": "pos"})
    with pytest.raises(UserError, match=r"has 1 label \('x'\)"):
        opened(path, label_map=dict.fromkeys("12345", "x"))
