"""The lock of a model_dir."""

import os
import signal
import subprocess
import sys

import pytest

from pipeline.errors import UserError
from tests.small import ROOT
from trainer.runtime.lock import run_lock


def test_the_lock_of_a_dead_process_does_not_block(tmp_path):
    folder = tmp_path / "run"
    program = (
        "import os, sys, pathlib; from trainer.runtime.lock import run_lock\n"
        "with run_lock(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert (folder / "lock").read_text().startswith("process ")
    with (
        run_lock(folder),
        pytest.raises(UserError, match=f"process {os.getpid()} on"),
        run_lock(folder),
    ):
        pass
    assert not (folder / "lock").exists()


def test_locking_does_not_write_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("as it was")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="lock"), run_lock(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "as it was"
