"""Trains a language model, or goes on: python -m scripts.pretrain --model_dir=runs/words [flags].

It reads the reviews of the train split but those of validation, and the unlabelled ones, and no
label. What it learns is a start for scripts.train: --init_from=runs/words.
"""

from __future__ import annotations

from scripts import command_line


def define_flags() -> None:
    """Defines the flags of this command."""
    command_line.define_model_dir_flag()
    command_line.define_setting_flags()


def main(arguments: list[str]) -> int:
    """Trains, and prints results.json on stdout."""
    return command_line.train(arguments, objective="next_words")


if __name__ == "__main__":
    command_line.run(main, define_flags)
