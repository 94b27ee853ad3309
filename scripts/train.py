"""Trains a model, or goes on training: python -m scripts.train --model_dir=runs/a [flags].

All that the run makes is in --model_dir; type the same command again to go on after a stop.
"""

from __future__ import annotations

from scripts.cli import commands


def define_flags() -> None:
    """Defines the flags of this command."""
    commands.define_model_dir_flag()
    commands.define_setting_flags()


def main(arguments: list[str]) -> int:
    """Trains, and prints results.json on stdout."""
    return commands.train(arguments)


if __name__ == "__main__":
    commands.run(main, define_flags)
