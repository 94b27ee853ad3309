"""Checks that a run replaces and deletes only its own files."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UserError

# The files that a run replaces in its folder, except vocabulary.txt and taught_labels.npy, which it
# writes before config.json.
_RUN_FILES = (
    *("checkpoints", "best", "history.csv", "curves.png", "results.json"),
    *("train/*tfevents*", "validation/*tfevents*", "validation/*.bin", "validation/words.tsv"),
    "validation/projector_config.pbtxt",
)


def check_links(model_dir: Path) -> None:
    """Checks that no subfolder of a run is a link, which may lead to another run.

    Raises:
        UserError: A subfolder is a link.
    """
    for name in ("checkpoints", "best", "train", "validation"):
        if (model_dir / name).is_symlink():
            raise UserError(
                f"{model_dir / name} is a link, and training would change its target; replace it "
                "with a folder, or make the whole --model_dir a link"
            )


def check_contains_no_run(model_dir: Path) -> None:
    """Checks that a new run would not replace files in its folder.

    Raises:
        UserError: The folder contains a file that the run would replace.
    """
    found = sorted(path for pattern in _RUN_FILES for path in model_dir.glob(pattern))
    if found:
        raise UserError(
            f"{model_dir} contains no run (no config.json), but it contains "
            f"{found[0].relative_to(model_dir)}, which a new run would replace; name another "
            "--model_dir"
        )
