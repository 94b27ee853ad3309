"""Damaged and incomplete TFDS data sets."""

import dataclasses
import os
import re
import shutil

import pytest

from pipeline.errors import RunError
from pipeline.named_dataset.dataset import open_dataset
from trainer import run as runs

# Data sets


def half_prepared(folder):
    (folder / "dataset_info.json").unlink()


def truncated(folder):
    for path in folder.glob("*train.tfrecord*"):
        os.truncate(path, path.stat().st_size // 2)


def flipped(folder):
    for path in folder.glob("*train.tfrecord*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def without_files(folder):
    for path in folder.glob("*.tfrecord*"):
        path.unlink()


def garbled(folder):
    (folder / "dataset_info.json").write_text("{")


@pytest.mark.parametrize("damage", [half_prepared, truncated, flipped, without_files, garbled])
def test_a_damaged_data_set_error_names_the_command_that_repairs_it(
    small_config, data_dir, tmp_path, damage
):
    shutil.copytree(data_dir, tmp_path / "data")
    folder = next((tmp_path / "data" / "imdb_offline").iterdir())
    damage(folder)
    config = dataclasses.replace(
        small_config, data_dir=str(tmp_path / "data"), cache_dir="", download=False
    )
    with pytest.raises(RunError) as raised:
        runs.train(config, tmp_path / "run")
    message = raised.value.message
    assert "\n" not in message
    assert re.search(r"rm -r \S+$|--data_dir=FOLDER$", message), message
    assert not (tmp_path / "run").exists()


def test_a_half_downloaded_data_set_is_not_used(data_dir, tmp_path):
    """TFDS prepares in a folder of another name, which a kill leaves behind."""
    version = next((data_dir / "imdb_offline").iterdir())
    unfinished = tmp_path / "imdb_offline" / f"{version.name}.incomplete.ABCDEF"
    shutil.copytree(version, unfinished)
    with pytest.raises(RunError, match=r"is not in .*data_dir=FOLDER"):
        open_dataset("imdb_offline", data_dir=str(tmp_path), download=False)
