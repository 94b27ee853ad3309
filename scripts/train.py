"""Trains a model, or resumes a run: python -m scripts.train --model_dir=runs/a [flags].

All files of the run are in --model_dir. A run resumes with the settings that it has; flags may
change some of them. Prints one line per result.
"""

from __future__ import annotations

import shlex
import sys

from scripts.cli import commands, streams
from scripts.cli.flags import (
    define_model_dir_flag,
    define_setting_flags,
    get_model_dir,
    get_settings,
)
from scripts.cli.output import define_format_flag, print_results


def define_flags() -> None:
    """Defines the flags of this command."""
    define_model_dir_flag()
    define_format_flag()
    define_setting_flags()


def main() -> int:
    """Trains, and prints what results.json contains. Returns 0, or 128 + n after signal n."""
    model_dir = get_model_dir()
    config = get_settings(model_dir)
    with streams.quiet_stderr():
        from trainer.run import train
        from trainer.runtime.signals import Interrupted, StopSignals
    try:
        with StopSignals():
            results = train(config, model_dir)
    except Interrupted as interrupted:
        resume = shlex.join([sys.executable, *sys.orig_argv[1:]])
        is_saved = (model_dir / "config.json").exists()
        hint = "everything is saved; to resume" if is_saved else "nothing is trained yet; to start"
        streams.print_message(f"{interrupted}, {hint}: {resume}")
        return 128 + interrupted.signal
    if results:  # empty in a worker that is not the chief
        print_results(results)
    return 0


if __name__ == "__main__":
    commands.run(main, define_flags)
