"""Trains a model, or goes on training: python -m scripts.train --model_dir=runs/a [flags].

All that the run makes is in --model_dir; type the same command again to go on after a stop.
"""

from __future__ import annotations

from scripts import command_line


def define_flags() -> None:
    """Defines the flags of this command."""
    command_line.define_model_dir_flag()
    command_line.define_setting_flags()


def main(arguments: list[str]) -> int:
    """Trains, and prints results.json on stdout."""
    return command_line.train(arguments, objective="sentiment")


if __name__ == "__main__":
    command_line.run(main, define_flags)
