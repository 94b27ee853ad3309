"""Exports a trained model: python -m scripts.export --model_dir=runs/a [--export_dir=DIR].

Writes a SavedModel, which takes texts and needs only TensorFlow, and a model card. Prints the
folder.
"""

from __future__ import annotations

from absl import flags

from pipeline.errors import UserError
from scripts.cli import commands, streams
from scripts.cli.flags import FLAGS, define_model_dir_flag, get_local_path, get_model_dir


def define_flags() -> None:
    """Defines the flags of this command."""
    define_model_dir_flag()
    flags.DEFINE_string("export_dir", "", "folder to write to; empty: MODEL_DIR/export")


def main() -> None:
    """Exports the model, and prints the folder."""
    model_dir = get_model_dir()
    export_dir = get_local_path("export_dir") if FLAGS.export_dir else model_dir / "export"
    if not FLAGS.export_dir and export_dir.is_symlink():
        # A model_dir from an untrusted source must not choose where this command writes.
        raise UserError(
            f"{export_dir} is a link; to write to its target, type --export_dir={export_dir}"
        )
    with streams.quiet_stderr():
        from trainer.artifacts.export import export
    export(model_dir, export_dir)
    print(export_dir)


if __name__ == "__main__":
    commands.run(main, define_flags)
