"""The comparison with PyTorch: the measurements of this project. PyTorch is not installed in CI."""

import json

import pytest

from tests.pretrained_folder import make_folder


@pytest.mark.slow
def test_speed_of_fine_tuning_is_measured(run_process, data_flags, tmp_path):
    folder = make_folder(tmp_path / "encoder")
    settings = [f"--pretrained={folder}", "--dataset=imdb_offline", "--sequence_length=32"]
    (tmp_path / "files").mkdir()
    settings += ["--batch_size=8", "--truncate=head", f"--folder={tmp_path / 'files'}"]
    measured = {}
    for part in ("training", "serving"):
        flags = [f"--measure={part}", "--steps=2", *settings, *data_flags]
        done = run_process("dev.fine_tuning", *flags)
        assert done.returncode == 0, done.stderr.decode()
        measured |= json.loads(done.stdout)
    assert len(measured) == 3
    assert all(value > 0 for value in measured.values())


def test_the_folder_must_be_named(run_process, data_flags):
    done = run_process("dev.fine_tuning", *data_flags)
    assert done.returncode == 1
    assert b"name the folder of the encoder: --pretrained=FOLDER" in done.stderr
