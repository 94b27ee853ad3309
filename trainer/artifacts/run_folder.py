"""Checks that a run finds nothing foreign in its folder that it would replace or delete."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UserError

# What a run replaces in its folder, except vocabulary.txt and taught_labels.npy, which it writes
# before config.json.
_WRITTEN = (
    *("checkpoints", "best", "history.csv", "curves.png", "results.json"),
    *("train/*tfevents*", "validation/*tfevents*", "validation/*.bin", "validation/words.tsv"),
    "validation/projector_config.pbtxt",
)


def check_links(model_dir: Path) -> None:
    """Checks that what a run replaces and deletes is in its own folder.

    Raises:
        UserError: A folder in it is a link, which may lead to another run.
    """
    for name in ("checkpoints", "best", "train", "validation"):
        if (model_dir / name).is_symlink():
            raise UserError(
                f"{model_dir / name} is a link, and its target would be changed; put a folder "
                "there, or make the whole --model_dir a link"
            )


def check_holds_no_run(model_dir: Path) -> None:
    """Checks that a new run replaces nothing that is in its folder.

    Raises:
        UserError: It would.
    """
    found = sorted(path for name in _WRITTEN for path in model_dir.glob(name))
    if found:
        raise UserError(
            f"{model_dir} holds no run (it has no config.json), but "
            f"{found[0].relative_to(model_dir)}, which a run would replace; name another "
            "--model_dir"
        )
