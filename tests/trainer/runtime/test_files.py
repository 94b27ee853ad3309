"""Atomic replacement of files, and files beside them."""

import os
import stat

import pytest

from pipeline.errors import UserError
from trainer.artifacts.checkpoints import _remove_unfinished
from trainer.runtime.files import remove_unfinished, replacing
from trainer.runtime.lock import run_lock


def write(path, text):
    with replacing(path) as new:
        new.write_text(text)


def write_half(path):
    with replacing(path) as new:
        new.write_text("half")
        raise ValueError("half")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_with_similar_names_stay(tmp_path):
    beside = [tmp_path / name for name in ("a.txt.new", "a.txt.tmp", ".a.txt.new", "new")]
    for path in beside:
        path.write_text("mine")
    write(tmp_path / "a.txt", "first")
    write(tmp_path / "a.txt", "second")
    assert (tmp_path / "a.txt").read_text() == "second"
    assert {path.read_text() for path in beside} == {"mine"}
    assert len(names(tmp_path)) == 1 + len(beside)


def test_two_writers_do_not_disturb_each_other(tmp_path):
    with replacing(tmp_path / "a") as first, replacing(tmp_path / "a") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"  # the last writer to finish
    assert names(tmp_path) == ["a"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write(tmp_path / "a", "first")
    with pytest.raises(ValueError, match="half"):
        write_half(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "first"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_new_file_has_the_permissions_of_any_other(tmp_path, umask):
    before = os.umask(umask)
    try:
        write(tmp_path / "a", "first")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    write(tmp_path / "a", "first")
    (tmp_path / "a").chmod(0o640)
    write(tmp_path / "a", "second")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "precious").write_text("as it was")
    (tmp_path / "a").symlink_to("precious")
    write(tmp_path / "a", "new")
    assert (tmp_path / "precious").read_text() == "as it was"
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("path", ["none/a", "file/a", "folder"])
def test_an_error_names_the_final_path(tmp_path, path):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(OSError, match=path) as raised:
        write(tmp_path / path, "text")
    assert raised.value.filename == str(tmp_path / path)


def test_only_unfinished_files_of_killed_processes_are_removed(tmp_path):
    with replacing(tmp_path / "a") as new:
        new.write_text("half")
        name = new.parent.name
    kept = {name: "other", f"{name}.mine": "new", "x.new": "new", ".unfinished": "new"}
    for folder, file in kept.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).touch()
    left = tmp_path / name.replace(".unfinished", "x.unfinished")
    left.mkdir()
    (left / "new").write_text("half")
    remove_unfinished(tmp_path, older_than=3600)
    assert left.exists()
    remove_unfinished(tmp_path)
    assert names(tmp_path) == sorted(["a", *kept])


def test_copies_of_checkpoints_are_not_removed(tmp_path):
    mine = ("ckpt-good.index", "ckpt-3.index.bak", "ckpt-notes.txt", "ckpt-3", "ckpt-3_temp.zip")
    for name in (*mine, "ckpt-7.data-00000-of-00001", "ckpt-8.index.tempstate123"):
        (tmp_path / name).touch()
    for name, file in (("ckpt-9_temp", "part-00000-of-00001.index"), ("ckpt-10_temp", "notes")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    _remove_unfinished(tmp_path)
    assert names(tmp_path) == sorted([*mine, "ckpt-10_temp"])


def test_a_file_named_lock_that_is_not_a_lock_stays(tmp_path):
    (tmp_path / "lock").write_text("poetry.lock, moved here")
    with pytest.raises(UserError, match="is not a lock of this program"), run_lock(tmp_path):
        pass
    assert (tmp_path / "lock").read_text() == "poetry.lock, moved here"
