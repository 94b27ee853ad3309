"""Exports a trained model: python -m scripts.export --model_dir=runs/a [--export_dir=DIR].

Makes a SavedModel, which takes texts and needs only TensorFlow, and a model card. Prints their
folder.
"""

from __future__ import annotations

from absl import flags

from pipeline.errors import UserError
from scripts.cli import commands
from scripts.cli.commands import FLAGS


def define_flags() -> None:
    """Defines the flags of this command."""
    commands.define_model_dir_flag()
    flags.DEFINE_string("export_dir", "", "where it goes; empty for MODEL_DIR/export")


def main(arguments: list[str]) -> None:
    """Exports, and prints where to."""
    commands.refuse(arguments)
    model_dir = commands.model_dir()
    export_dir = commands.local_path("export_dir") if FLAGS.export_dir else model_dir / "export"
    if not FLAGS.export_dir and export_dir.is_symlink():  # the folder may come from a stranger
        raise UserError(
            f"{export_dir} is a link; to write to its target, type --export_dir={export_dir}"
        )
    with commands.quiet_stderr():
        from trainer.artifacts.export import export
    export(model_dir, export_dir)
    print(export_dir)


if __name__ == "__main__":
    commands.run(main, define_flags)
