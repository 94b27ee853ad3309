"""The cache: entries, concurrent writers, its limit, and files that are not its own."""

import logging
import os
import threading
import time
from pathlib import Path

import pytest

from pipeline.cache import Cache
from pipeline.errors import RunError, UserError


def write(text):
    return lambda folder: (folder / "file").write_text(text)


def read(folder):
    return (folder / "file").read_text()


def entries(root):
    """The finished entries of a cache."""
    return {path.parent for path in root.glob("text-sentiment-cache/*/entry.json")}


def unfinished(root):
    return list(root.glob("text-sentiment-cache/unfinished/*"))


def set_times(folder, hours):
    """Makes a folder and its files so many hours old."""
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - hours * 3600,) * 2)


def test_an_entry_is_made_once_for_each_key(tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        write("1")(folder)

    for key in ({"a": 1}, {"a": 1}, {"a": 2}):
        assert Cache(tmp_path).get("entry", key, make=make, read=read) == "1"
    assert len(made) == 2


def test_a_failed_maker_leaves_no_entry(tmp_path):
    def fail(folder):
        write("half")(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).get("entry", {}, make=fail, read=read)
    assert not entries(tmp_path)
    assert not unfinished(tmp_path)
    assert Cache(tmp_path).get("entry", {}, make=write("whole"), read=read) == "whole"


def test_unfinished_entries_do_no_harm_and_are_removed_after_a_day(tmp_path):
    Cache(tmp_path).get("entry", {}, make=write("whole"), read=read)
    (entry,) = entries(tmp_path)
    left = {}
    for name, hours in (("young", 1), ("old", 48)):
        left[name] = entry.parent / "unfinished" / f"{entry.name}.{name}"
        left[name].mkdir()
        (left[name] / "entry.json").write_text("{}")
        write("half")(left[name])
        set_times(left[name], hours)
    assert Cache(tmp_path).get("entry", {}, make=write("again"), read=read) == "whole"
    Cache(tmp_path).get("other", {}, make=write("other"), read=read)
    assert left["young"].is_dir()
    assert not left["old"].exists()


def bystanders(folder):
    """Fills a folder with files that are not the cache's. Returns paths, contents and times."""
    names = (".git/config", ".ssh/id", "my.project/notes.txt", "tokens-0123.old/values.bin")
    names += ("texts-0123456789abcdef0123/values.bin", "unfinished/a.b/file", "entry.json", "a.new")
    names += tuple(
        f"text-sentiment-cache/{name}" for name in ("mine.d/file", "tokens-1/values.bin")
    )
    names += tuple(f"text-sentiment-cache/unfinished/{name}" for name in ("x.y/file", "file.z"))
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        os.utime(path, (time.time() - 10 * 86_400,) * 2)
    for path in folder.rglob("*"):
        if path.is_dir() and path.name != "unfinished":
            os.utime(path, (time.time() - 10 * 86_400,) * 2)
    return {folder / name for name in names}


def test_only_entries_of_the_cache_are_removed(tmp_path):
    """--cache_dir=. or $HOME; on old and new things, also in the folder of the cache itself."""
    mine = bystanders(tmp_path)
    cache = Cache(tmp_path, limit=0)
    cache.get("entry", {}, make=write("1"), read=read)
    set_times(*entries(tmp_path), hours=48)
    cache.get("entry", {"second": 2}, make=write("2"), read=read)
    assert len(entries(tmp_path)) == 1  # the limit did remove the first
    assert {path.read_text() for path in mine} == {"mine"}


def test_a_folder_in_the_place_of_an_entry_is_not_replaced(tmp_path):
    Cache(tmp_path).get("entry", {}, make=write("whole"), read=read)
    (entry,) = entries(tmp_path)
    (entry / "entry.json").unlink()
    with pytest.raises(RunError, match="has the name of a cache entry, but is not one"):
        Cache(tmp_path).get("entry", {}, make=write("again"), read=read)
    assert read(entry) == "whole"


def test_a_link_to_an_entry_is_not_removed(tmp_path):
    """Another cache's entry stays as it is."""
    Cache(tmp_path / "theirs").get("entry", {}, make=write("theirs"), read=read)
    (theirs,) = entries(tmp_path / "theirs")
    Cache(tmp_path / "ours").get("other", {}, make=write("1"), read=read)
    link = tmp_path / "ours" / "text-sentiment-cache" / "entry-linked"
    link.symlink_to(theirs)
    set_times(theirs, hours=48)
    Cache(tmp_path / "ours", limit=0).get("another", {}, make=write("2"), read=read)
    assert read(link) == "theirs"


def test_least_recently_used_entries_are_removed_over_the_limit(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)
    caplog.set_level(logging.INFO)
    size = 100_000

    def number_of(text):
        return int(text[-1])

    def get(number, limit=None):
        def make(folder):
            (folder / "file").write_text(f"{number:0{size}}")

        cache = Cache(tmp_path, limit=limit)
        return number_of(cache.get("entry", {"number": number}, make=make, read=read))

    for number in range(4):
        assert get(number) == number
        (new,) = (path for path in entries(tmp_path) if number_of(read(path)) == number)
        set_times(new, hours=10 - number)
    assert get(0) == 0  # it is the oldest, and was used just now
    assert get(4, limit=3 * size + 10_000) == 4
    assert sorted(number_of(read(path)) for path in entries(tmp_path)) == [0, 3, 4]
    assert not unfinished(tmp_path)
    assert "removed the least recently used 0.2 MB" in caplog.text
    assert "--cache_gb" in caplog.text


def test_entries_of_the_last_hour_stay_at_any_limit(tmp_path):
    """Another process may be about to read them."""
    for number in range(3):
        Cache(tmp_path, limit=0).get("entry", {"n": number}, make=write("1"), read=read)
    assert len(entries(tmp_path)) == 3


def test_a_cache_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    Cache(tmp_path).get("entry", {}, make=write("whole"), read=read)

    def refuse(*arguments):
        raise PermissionError(*arguments)

    monkeypatch.setattr(os, "utime", refuse)
    assert Cache(tmp_path).get("entry", {}, make=write("again"), read=read) == "whole"


@pytest.mark.parametrize("folder", ["/proc/none", "{}/file", "{}/file/below"])
def test_a_cache_that_cannot_be_made_is_a_user_error(tmp_path, folder):
    (tmp_path / "file").touch()
    cache = Cache(Path(folder.format(tmp_path)))
    with pytest.raises(UserError, match=r"cannot be written .*cache_dir=FOLDER, or use none"):
        cache.get("entry", {}, make=None, read=read)


def test_two_makers_of_one_entry_at_once_both_succeed(tmp_path):
    both = threading.Barrier(2, timeout=20)
    got = []

    def make(folder):
        both.wait()
        write("same")(folder)

    def get():
        got.append(Cache(tmp_path).get("entry", {}, make=make, read=read))

    threads = [threading.Thread(target=get) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["same", "same"]
    assert len(entries(tmp_path)) == 1
    assert not unfinished(tmp_path)


def test_a_cache_without_a_folder_is_temporary():
    cache = Cache(None)
    folder = cache.get("entry", {}, make=write("1"), read=lambda folder: folder)
    assert folder.is_dir()
    del cache
    assert not folder.exists()
