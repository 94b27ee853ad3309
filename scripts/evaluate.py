"""Measures a trained model: python -m scripts.evaluate --model_dir=runs/a [--split=test].

Prints a line for each figure; they are those of results.json when the split is test.
"""

from __future__ import annotations

from absl import flags

from scripts import command_line
from scripts.command_line import FLAGS

command_line.define_model_dir_flag()
flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "the reviews to measure on")
flags.DEFINE_string("data_dir", "", "folder of tensorflow-datasets; empty for the run's own")


def main(arguments: list[str]) -> None:
    """Evaluates, and prints name and value, divided by a tab."""
    command_line.refuse(arguments)
    model_dir = command_line.model_dir()
    with command_line.quiet_stderr():
        from trainer.run import load
    for name, value in load(model_dir).evaluate(FLAGS.split, data_dir=FLAGS.data_dir).items():
        print(name, value, sep="\t")


if __name__ == "__main__":
    command_line.run(main)
