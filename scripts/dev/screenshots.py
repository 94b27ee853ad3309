"""Takes screenshots of TensorBoard: python -m scripts.dev.screenshots --logdir=runs.

Starts TensorBoard on a folder of runs, and opens its pages in a headless browser of the Chromium
family. Writes OUTPUT_DIR/PAGE.png for each page, and prints the paths.
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
from typing import IO

from absl import flags

from pipeline.errors import RunError, UserError
from scripts.cli import commands
from scripts.cli.flags import FLAGS, get_local_path

_PAGES = ("scalars", "text", "pr_curves", "hparams")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_SECONDS = 120  # at most, to start TensorBoard and to take a screenshot


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("logdir", "runs", "folder of the runs")
    flags.DEFINE_string("output_dir", "screenshots", "folder for the screenshots")
    flags.DEFINE_list(
        "pages", ",".join(_PAGES), "pages to capture: the part of TensorBoard's addresses after #"
    )
    flags.DEFINE_string(
        "browser", "", f"browser to use; empty: the first that exists of {', '.join(_BROWSERS)}"
    )
    flags.DEFINE_string("size", "1600,900", "width and height in pixels")


def main() -> None:
    """Takes the screenshots, and prints their paths."""
    logdir, output_dir = get_local_path("logdir"), get_local_path("output_dir")
    browser = _find_browser()
    if not logdir.is_dir():
        raise UserError(f"--logdir={logdir} is not a folder; name a folder of runs")
    output_dir.mkdir(parents=True, exist_ok=True)
    with _serve(logdir) as address:
        for page in FLAGS.pages:
            path = output_dir / f"{page}.png"
            _take_screenshot(browser, f"{address}#{page}", path)
            print(path)


def _find_browser() -> str:
    """Returns the path of --browser, or of the first known browser."""
    names = [FLAGS.browser] if FLAGS.browser else _BROWSERS
    if path := next(filter(None, map(shutil.which, names)), None):
        return path
    raise UserError(
        f"no browser found as {' or '.join(names)}; install Chromium, or name it: --browser=PATH"
    )


@contextlib.contextmanager
def _serve(logdir: Path) -> Iterator[str]:
    """Runs TensorBoard on a free port, and yields its address once it has read all runs."""
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={logdir}", "--port=0"]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield _wait_for_runs(server, log, logdir)
        finally:
            server.terminate()
            server.wait()


def _wait_for_runs(server: subprocess.Popen[bytes], log: IO[str], logdir: Path) -> str:
    """Waits until TensorBoard lists the same runs twice in a row, and returns its address."""
    runs, deadline = b"", time.monotonic() + _SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        time.sleep(1)
        log.seek(0)
        if found := re.search(r" at (http://\S+)", log.read()):
            address = found[1]
            with urllib.request.urlopen(f"{address}data/runs") as response:
                previous, runs = runs, response.read()
            if runs.strip() != b"[]" and runs == previous:
                return address
    log.seek(0)
    raise RunError(f"TensorBoard shows no run of {logdir}: {log.read()[-500:] or 'no reason'}")


def _take_screenshot(browser: str, address: str, path: Path) -> None:
    with tempfile.TemporaryDirectory() as profile:
        command = [
            *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            f"--user-data-dir={profile}",
            f"--window-size={FLAGS.size}",
            "--virtual-time-budget=30000",  # milliseconds on the page's clock, not of real time
            f"--screenshot={path.absolute()}",
            address,
        ]
        path.unlink(missing_ok=True)
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    if not path.exists():
        reason = done.stderr.strip()[-500:] or "no reason"
        raise RunError(f"{browser} did not write {path}: {reason}")


if __name__ == "__main__":
    commands.run(main, define_flags)
