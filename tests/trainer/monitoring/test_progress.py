"""The progress bar and progress lines."""

import io
import logging
import re
import time

import pytest

from trainer.monitoring import progress
from trainer.monitoring.progress import Progress, log_while_running


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def lines(monkeypatch, caplog):
    """The log of a process without a terminal that logs progress at each step."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    caplog.set_level(logging.INFO)
    return caplog


def test_the_bar_shows_the_current_epoch_from_its_first_step(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    bar = Progress(first_step=0, last_step=378)
    bar.begin_epoch("1/3")
    bar.advance(126)
    bar.begin_epoch("2/3")
    shown = terminal.getvalue()
    bar.close()
    assert re.search(r"epoch 2/3: +33%\|.* 126/378 [^\r]*$", shown)


def test_progress_lines_show_the_epoch_with_or_without_metrics(lines, monkeypatch):
    """The first metrics come after --summary_every steps; compiling is not in the estimate."""
    seconds = iter([0, 100, 110])  # 100 s of compiling, then 1 s per step
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    shown = Progress(first_step=10, last_step=30)
    shown.begin_epoch("2/3")
    shown.advance(5)
    shown.show({"loss": 0.5})
    shown.begin_epoch("3/3")
    shown.advance(10)
    first, second = lines.messages
    assert first == "epoch 2/3  step 15/30"
    assert second == "epoch 3/3  step 25/30  loss 0.5  ETA 00:05"


def test_long_work_is_announced_and_repeated(lines, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.02)
    with log_while_running("compiling"):
        assert lines.messages[0] == "compiling"
        deadline = time.monotonic() + 10
        while len(lines.messages) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    count = len(lines.messages)
    assert count >= 3
    assert lines.messages[1] == "compiling: 0 s so far"
    time.sleep(0.1)
    assert len(lines.messages) == count


def test_an_error_ends_the_announcement(lines, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.02)
    with pytest.raises(ValueError, match="wrong"), log_while_running("compiling"):
        raise ValueError("wrong")
    time.sleep(0.1)
    assert lines.messages == ["compiling"]
