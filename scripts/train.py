"""Trains a model, or goes on training: python -m scripts.train --model_dir=runs/a [flags].

All that the run makes is in --model_dir; type the same command again to go on after a stop.
"""

from __future__ import annotations

import json
import shlex
import sys

from scripts import command_line

command_line.define_model_dir_flag()
command_line.define_setting_flags()


def main(arguments: list[str]) -> int:
    """Trains, and prints results.json on stdout."""
    command_line.refuse(arguments)
    config, model_dir = command_line.settings(), command_line.model_dir()
    with command_line.quiet_stderr():
        from trainer.run import train
        from trainer.stopping import Stopped, StopSignals
    try:
        with StopSignals() as stop:
            results = train(config, model_dir, stop=stop)
    except Stopped as stopped:
        again = shlex.join([sys.executable, "-m", "scripts.train", *sys.argv[1:]])
        command_line.note(f"{stopped}, everything saved; to go on: {again}")
        return 128 + stopped.signal
    print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    command_line.run(main)
