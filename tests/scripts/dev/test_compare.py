"""The comparison's table agrees with its measurements; accuracy and speed are not tested."""

import json

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compared(run_process, flags, tmp_path_factory):
    """Two peers and a recipe on the small data set: the table, the JSON and the picture."""
    folder = tmp_path_factory.mktemp("compare")
    files = [f"--json={folder / 'measured.json'}", f"--picture={folder / 'picture.png'}"]
    done = run_process(
        "dev.compare", "--methods=TF-IDF of words,NB-SVM,tutorial", "--seeds=2", *files, *flags
    )
    assert done.returncode == 0, done.stderr.decode()
    measured = json.loads((folder / "measured.json").read_text())
    return done.stdout.decode(), measured, folder / "picture.png"


def test_each_method_has_its_row(compared):
    table, measured, picture = compared
    assert {name: len(results) for name, results in measured.items()} == {
        "TF-IDF of words": 1,
        "NB-SVM": 1,
        "tutorial": 2,
    }
    for name, results in measured.items():
        row = next(line for line in table.splitlines() if name in line)
        accuracy = sum(result["accuracy"] for result in results) / len(results)
        assert f"{accuracy:.4f}" in row
        assert 0.45 < accuracy < 1
        assert all(result["seconds"] > 0 for result in results)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_unknown_method_is_refused(run_process, flags):
    done = run_process("dev.compare", "--methods=fast,magic", *flags)
    assert done.returncode == 1
    assert "--methods=magic is unknown; choose from TF-IDF of words" in done.stderr.decode()
