"""Exports a trained model: python -m scripts.export --model_dir=runs/a [--export_dir=DIR].

Makes a SavedModel that takes texts and needs TensorFlow alone. Prints its folder.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from scripts import command_line
from scripts.command_line import FLAGS

command_line.define_model_dir_flag()
flags.DEFINE_string("export_dir", "", "where the SavedModel goes; empty for MODEL_DIR/export")


def main(arguments: list[str]) -> None:
    """Exports, and prints where to."""
    command_line.refuse(arguments)
    model_dir = command_line.model_dir()
    export_dir = Path(FLAGS.export_dir).expanduser() if FLAGS.export_dir else model_dir / "export"
    with command_line.quiet_stderr():
        from trainer.export import export
    export(model_dir, export_dir)
    print(export_dir)


if __name__ == "__main__":
    command_line.run(main)
