"""Exports a trained model: python -m scripts.export --model_dir=runs/a [--export_dir=DIR].

Makes a SavedModel that takes texts and needs TensorFlow alone, or with --export_format=keras a
Keras model of token ids; with a model card. Prints their folder.
"""

from __future__ import annotations

from absl import flags

from pipeline.errors import Mistake
from scripts import command_line
from scripts.command_line import FLAGS


def define_flags() -> None:
    """Defines the flags of this command."""
    command_line.define_model_dir_flag()
    flags.DEFINE_string("export_dir", "", "where it goes; empty for MODEL_DIR/export")
    flags.DEFINE_enum(
        "export_format",
        "saved_model",
        ("saved_model", "keras"),
        "a SavedModel of texts, or a Keras model of token ids, which the code of this project "
        "loads",
    )


def main(arguments: list[str]) -> None:
    """Exports, and prints where to."""
    command_line.refuse(arguments)
    model_dir = command_line.model_dir()
    export_dir = command_line.local_path("export_dir") if FLAGS.export_dir else model_dir / "export"
    if not FLAGS.export_dir and export_dir.is_symlink():  # the folder may come from a stranger
        raise Mistake(
            f"{export_dir} is a link; to write to its target, type --export_dir={export_dir}"
        )
    with command_line.quiet_stderr():
        from trainer.export import export
    export(model_dir, export_dir, FLAGS.export_format)
    print(export_dir)


if __name__ == "__main__":
    command_line.run(main, define_flags)
