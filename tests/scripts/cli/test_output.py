"""--output replaces a regular file atomically, and writes into devices and pipes."""

import os
import pty
import stat
import subprocess
import sys
import threading

import pytest

from pipeline.errors import UserError
from scripts.cli.output import Output


def write(name, content=b"new"):
    with Output(str(name)).open() as file:
        file.write(content)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.tsv"
    write(path, b"old")
    with pytest.raises(RuntimeError), Output(str(path)).open() as file:  # noqa: PT012
        file.write(b"half")
        file.flush()
        assert path.read_bytes() == b"old"
        raise RuntimeError
    assert path.read_bytes() == b"old"
    write(path)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_links_are_followed_and_stay(tmp_path):
    target, first, second = tmp_path / "to" / "a.tsv", tmp_path / "first", tmp_path / "second"
    target.parent.mkdir()
    target.write_bytes(b"old")
    first.symlink_to(second)
    second.symlink_to("to/a.tsv")
    write(first)
    assert (first.readlink(), second.readlink()) == (second, type(second)("to/a.tsv"))
    assert target.read_bytes() == b"new"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "to" / "b.tsv")
    write(dangling)
    assert (tmp_path / "to" / "b.tsv").read_bytes() == b"new"
    assert dangling.is_symlink()


def test_pipes_and_devices_are_written_into(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join()
    assert got == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    # A terminal; a wrong program could not create a file in its folder.
    terminal, device = pty.openpty()
    link = tmp_path / "terminal"
    link.symlink_to(os.ttyname(device))
    write(link)
    assert os.read(terminal, 3) == b"new"
    assert link.is_symlink()
    os.close(device)
    os.close(terminal)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_an_open_descriptor_is_appended_to(tmp_path, name):
    """As in `>> log`: the old content stays."""
    log = tmp_path / "log"
    log.write_bytes(b"old ")
    program = (
        "import sys; from scripts.cli.output import Output\n"
        "with Output(sys.argv[1]).open() as file: file.write(b'new')"
    )
    with log.open("ab") as stdout:
        subprocess.run([sys.executable, "-c", program, name], stdout=stdout, check=True)
    assert log.read_bytes() == b"old new"


def test_output_that_cannot_be_written_is_found_first(tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match=r"is a folder; name a file in it, such as .*predictions.tsv"
    ):
        Output(str(tmp_path))
    with pytest.raises(UserError, match=r"is a folder; name a file in it"):
        Output(f"{tmp_path}/new/")
    with pytest.raises(UserError, match=r"there is no folder .*no; make it first"):
        Output(str(tmp_path / "no" / "a.tsv"))
    # Root may write anywhere; this is the result for other users.
    monkeypatch.setattr(os, "access", lambda path, _: str(path) != str(tmp_path))
    with pytest.raises(UserError, match=r"is not writable; name another file"):
        Output(str(tmp_path / "a.tsv"))
    assert not list(tmp_path.iterdir())


def test_the_same_file_under_another_name_is_recognized(tmp_path):
    path, link = tmp_path / "a.csv", tmp_path / "link"
    path.write_bytes(b"text\n")
    link.symlink_to(path)
    assert Output(str(link)).is_same_file(path)
    assert not Output(str(tmp_path / "b.csv")).is_same_file(path)
    assert not Output("-").is_same_file(path)
