"""Damaged checkpoints and checkpoints of another run."""

import hashlib
import shutil

import pytest

from pipeline.errors import RunError, UserError
from tests.helpers import all_equal, make_small_loop, state_arrays
from trainer.artifacts.trained_run import load


def damage(path, how):
    if how == "deleted":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content[:1000] if how == "truncated" else content)


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        pytest.param("flipped", marks=pytest.mark.slow),
        pytest.param("deleted", marks=pytest.mark.slow),
    ],
)
def test_a_run_resumes_from_the_newest_undamaged_checkpoint(
    small_config, splits, tmp_path, uninterrupted, how, caplog
):
    """The run ends with the same bits. Without any undamaged checkpoint it does not start again."""
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    last = make_small_loop(small_config, splits, uninterrupted).state
    files = sorted(
        folder.glob("checkpoints/*.data-*"), key=lambda file: int(file.name[5:].split(".")[0])
    )
    damage(files[-1], how)
    (folder / "checkpoints" / "checkpoint").unlink()
    loop = make_small_loop(small_config, splits, folder)
    assert files[-1].name.split(".")[0] in caplog.text
    assert 0 < int(loop.state.step) < int(last.step)
    loop.fit()
    assert all_equal(state_arrays(loop.state), state_arrays(last))
    assert (folder / "history.csv").read_text() == (uninterrupted / "history.csv").read_text()

    for file in folder.glob("checkpoints/*.data-*"):
        damage(file, how)
    with pytest.raises(RunError, match=r"none of the \d checkpoints"):
        make_small_loop(small_config, splits, folder)


def test_a_checkpoint_of_another_vocabulary_is_refused(trained, tmp_path):
    model_dir = trained
    shutil.copytree(model_dir, tmp_path / "run")
    path = tmp_path / "run" / "vocabulary.txt"
    words = path.read_text().splitlines()
    path.write_text("\n".join([words[1], words[0], *words[2:]]) + "\n")
    with pytest.raises(UserError, match=r"not the vocabulary of this run"):
        load(tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    old = hashlib.sha256((model_dir / "vocabulary.txt").read_bytes()).hexdigest()
    new = hashlib.sha256(path.read_bytes()).hexdigest()
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(UserError, match="was trained with vocabulary"):
        load(tmp_path / "run")
