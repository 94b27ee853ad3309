"""Pictures of TensorBoard: python -m scripts.dev.screenshots --logdir=runs --output_dir=DIR.

Starts TensorBoard on the folder of some runs, and has a browser of the Chromium family, without a
window, draw its pages: a PNG each, PAGE.png. Prints their paths.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from absl import flags

from pipeline.errors import RunError, UserError
from scripts.cli import commands
from scripts.cli.commands import FLAGS

_PAGES = ("scalars", "text", "pr_curves", "hparams")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_LONGEST_START = 120  # seconds
_LONGEST_DRAWING = 120


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("logdir", "runs", "folder of the runs")
    flags.DEFINE_string("output_dir", "screenshots", "folder of the pictures")
    flags.DEFINE_list(
        "pages", ",".join(_PAGES), "what stands after # in the addresses of the pages"
    )
    flags.DEFINE_string(
        "browser", "", f"the browser; empty for the first of {', '.join(_BROWSERS)}"
    )
    flags.DEFINE_string("size", "1600,900", "width and height, in pixels")


def main(arguments: list[str]) -> None:
    """Makes the pictures, and prints where they are."""
    commands.refuse(arguments)
    logdir, output_dir = map(commands.local_path, ("logdir", "output_dir"))
    browser = _browser()
    if not logdir.is_dir():
        raise UserError(f"--logdir={logdir} is no folder; name that of some runs")
    output_dir.mkdir(parents=True, exist_ok=True)
    with _served(logdir) as address:
        for page in FLAGS.pages:
            path = output_dir / f"{page}.png"
            _draw(browser, f"{address}#{page}", path)
            print(path)


def _browser() -> str:
    names = [FLAGS.browser] if FLAGS.browser else _BROWSERS
    for name in names:
        if path := shutil.which(name):
            return path
    raise UserError(
        f"no browser is found as {' or '.join(names)}; install Chromium, or name it: --browser=PATH"
    )


@contextlib.contextmanager
def _served(logdir: Path) -> Iterator[str]:
    """Runs TensorBoard on a port of its own choice, until it has read all runs."""
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={logdir}", "--port=0"]
    with tempfile.TemporaryFile("w+") as told:
        server = subprocess.Popen(command, stdout=told, stderr=told)
        try:
            yield _address_once_read(server, told)
        finally:
            server.terminate()
            server.wait()


def _address_once_read(server: subprocess.Popen[bytes], told: TextIO) -> str:
    address, runs, until = "", b"", time.monotonic() + _LONGEST_START
    while time.monotonic() < until and server.poll() is None:
        time.sleep(1)
        told.seek(0)
        if found := re.search(r" at (http://\S+)", told.read()):
            address = found[1]
            with urllib.request.urlopen(f"{address}data/runs") as answer:
                before, runs = runs, answer.read()
            if runs.strip() != b"[]" and runs == before:
                return address
    told.seek(0)
    raise RunError(
        f"TensorBoard shows no run of {FLAGS.logdir}: {told.read()[-500:] or 'no reason'}"
    )


def _draw(browser: str, address: str, path: Path) -> None:
    with tempfile.TemporaryDirectory() as profile:
        command = [
            *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            f"--user-data-dir={profile}",
            f"--window-size={FLAGS.size}",
            "--virtual-time-budget=30000",  # milliseconds that pass in the page, not outside
            f"--screenshot={path.absolute()}",
            address,
        ]
        path.unlink(missing_ok=True)
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LONGEST_DRAWING, check=False
        )
    if not path.exists():
        raise RunError(f"{browser} made no {path}: {done.stderr.strip()[-500:] or 'no reason'}")


if __name__ == "__main__":
    commands.run(main, define_flags)
