"""The comparison's table agrees with its measurements; accuracy and speed are not tested."""

import csv
import json
from collections import Counter

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
    (measured,) = json.loads((folder / "measured.json").read_text())["results"].values()
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
        auc = sum(result["auc"] for result in results) / len(results)
        assert f"{auc:.4f}" in row
        assert all(result["seconds"] > 0 for result in results)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_unknown_method_is_refused(run_process, flags):
    done = run_process("dev.compare", "--methods=fast,magic", *flags)
    assert done.returncode == 1
    assert "--methods=magic is unknown; choose from TF-IDF of words" in done.stderr.decode()


def test_data_sets_have_their_sizes_shares_and_one_test_split(tmp_path):
    from scripts.dev.measure.data_sets import write_data_set

    def rows(name, seed):
        write_data_set(name, seed, tmp_path / "data.csv")
        with (tmp_path / "data.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    small = rows("200 reviews", 0)
    labels = Counter((row["split"], row["label"]) for row in small)
    assert labels["train", "pos"] == labels["train", "neg"] == 100
    test = [row for row in small if row["split"] == "test"]
    assert len(test) > 4900
    assert test == [row for row in rows("5000 reviews", 1) if row["split"] == "test"]
    assert small != rows("200 reviews", 1)
    for split, size in (("train", 5000), ("test", 2400)):
        found = [
            row["label"] for row in rows("5000 reviews (97% positive)", 0) if row["split"] == split
        ]
        assert len(found) >= size
        assert found.count("pos") == pytest.approx(0.97 * len(found), abs=1)
    assert len({row["label"] for row in rows("four labels", 0)}) == 4
    assert not {row["text"] for row in test} & {
        row["text"] for row in small if row["split"] == "train"
    }


def test_methods_are_compared_on_a_made_data_set(run_process):
    done = run_process(
        "dev.compare", "--data_sets=200 reviews", "--methods=NB features,NB-SVM", "--seeds=1"
    )
    assert done.returncode == 0, done.stderr.decode()
    table = done.stdout.decode().splitlines()
    (features,) = [line for line in table if "NB features" in line]
    assert features.startswith("| 200 reviews | NB features | ")
    assert float(features.split("|")[4]) > 0.6
    (svm,) = [line for line in table if "NB-SVM" in line]
    assert svm.split("|")[7:9] == [" - ", " - "]
