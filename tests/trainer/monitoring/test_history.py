"""history.csv and curves.png."""

import csv

import matplotlib.image

from trainer.monitoring.history import History


def row(epoch, value):
    values = {
        f"{s}_{name}": value for s in ("train", "validation") for name in ("loss", "accuracy")
    }
    return {"epoch": epoch, "step": 10 * epoch, **values}


def rows_of(folder):
    with (folder / "history.csv").open(newline="") as file:
        return [(int(row["epoch"]), float(row["train_loss"])) for row in csv.DictReader(file)]


def test_history_has_exact_values_for_each_epoch(tmp_path):
    history = History(tmp_path, epochs=0)
    history.append(row(1, 0.1 + 0.2))
    history.append(row(2, 1 / 3))
    assert rows_of(tmp_path) == [(1, 0.1 + 0.2), (2, 1 / 3)]


def test_rows_of_lost_epochs_are_replaced(tmp_path):
    history = History(tmp_path, epochs=0)
    for epoch in (1, 2, 3):
        history.append(row(epoch, 0.5))
    History(tmp_path, epochs=1).append(row(2, 0.25))
    assert rows_of(tmp_path) == [(1, 0.5), (2, 0.25)]


def test_a_prepared_row_is_added_if_its_epoch_is_saved(tmp_path):
    """The process was killed after saving the epoch, before writing its row."""
    history = History(tmp_path, epochs=0)
    history.append(row(1, 0.1 + 0.2))
    history.prepare(row(2, 1 / 3))
    assert rows_of(tmp_path) == [(1, 0.1 + 0.2)]
    History(tmp_path, epochs=2)
    assert rows_of(tmp_path) == [(1, 0.1 + 0.2), (2, 1 / 3)]
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv", "curves.png"}


def test_a_prepared_row_is_dropped_if_its_epoch_is_not_saved(tmp_path):
    history = History(tmp_path, epochs=0)
    history.append(row(1, 0.5))
    history.prepare(row(2, 0.25))
    again = History(tmp_path, epochs=1)
    assert rows_of(tmp_path) == [(1, 0.5)]
    again.append(row(2, 0.125))
    assert rows_of(tmp_path) == [(1, 0.5), (2, 0.125)]


def test_a_row_written_twice_appears_once(tmp_path):
    """The process was killed after writing history.csv, before removing the prepared row."""
    history = History(tmp_path, epochs=0)
    history.append(row(1, 0.5))
    history.prepare(row(1, 0.5))
    History(tmp_path, epochs=1)
    assert rows_of(tmp_path) == [(1, 0.5)]


def test_curves_are_redrawn_each_epoch(tmp_path):
    history = History(tmp_path, epochs=0)
    history.append(row(1, 0.9))
    first = matplotlib.image.imread(tmp_path / "curves.png")
    history.append(row(2, 0.1))
    second = matplotlib.image.imread(tmp_path / "curves.png")
    assert first.shape[0] >= 300
    assert first.shape[1] >= 800
    assert (first != second).any()
