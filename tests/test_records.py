import csv

import matplotlib.image
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.errors import Fault
from trainer.records import History, RunRecord
from trainer.summaries import Summaries


def row(epoch, value):
    values = {
        f"{s}_{name}": value for s in ("train", "validation") for name in ("loss", "accuracy")
    }
    return {"epoch": epoch, "step": 10 * epoch, **values}


def rows_of(folder):
    with (folder / "history.csv").open(newline="") as file:
        return [(int(row["epoch"]), float(row["train_loss"])) for row in csv.DictReader(file)]


def test_history_holds_a_row_an_epoch_to_the_last_bit(tmp_path):
    history = History(tmp_path, epochs=0)
    history.append(row(1, 0.1 + 0.2))
    history.append(row(2, 1 / 3))
    assert rows_of(tmp_path) == [(1, 0.1 + 0.2), (2, 1 / 3)]


def test_rows_of_epochs_that_were_lost_are_replaced(tmp_path):
    history = History(tmp_path, epochs=0)
    for epoch in (1, 2, 3):
        history.append(row(epoch, 0.5))
    History(tmp_path, epochs=1).append(row(2, 0.25))
    assert rows_of(tmp_path) == [(1, 0.5), (2, 0.25)]


def test_curves_are_drawn_anew_each_epoch(tmp_path):
    history = History(tmp_path, epochs=0)
    history.append(row(1, 0.9))
    first = matplotlib.image.imread(tmp_path / "curves.png")
    history.append(row(2, 0.1))
    second = matplotlib.image.imread(tmp_path / "curves.png")
    assert first.shape[0] >= 300
    assert first.shape[1] >= 800
    assert (first != second).any()


def test_config_comes_back(small_config, tmp_path):
    record = RunRecord(
        small_config, "float32", ("neg", "pos"), "f00d", {"train": 3, "validation": 1}
    )
    record.write(tmp_path)
    assert RunRecord.read(tmp_path) == record
    assert RunRecord.read(tmp_path / "none") is None


@pytest.mark.parametrize("content", ["", "{}", '{"settings": {"encoder": "none"}}', "\x00"])
def test_a_damaged_config_is_a_fault(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(Fault, match=r"config\.json is damaged"):
        RunRecord.read(tmp_path)


def test_tensorboard_forgets_steps_that_are_written_again(tmp_path):
    before = Summaries(tmp_path, first_step=0, words=[], label_names=("neg", "pos"))
    for step in (5, 10, 15):
        before.write("train", "step", {"loss": 1.0}, step=step)
    before.close()
    for path in (tmp_path / "train").iterdir():  # killed in the middle of a write
        path.write_bytes(path.read_bytes() + b"\x18\x00\x00")
    after = Summaries(tmp_path, first_step=11, words=[], label_names=("neg", "pos"))
    after.write("train", "step", {"loss": 2.0}, step=15)
    after.close()
    events = EventAccumulator(str(tmp_path / "train"), size_guidance={"tensors": 0}).Reload()
    tensors = events.Tensors("step/loss")
    assert [event.step for event in tensors] == [5, 10, 15]
    assert tf.make_ndarray(tensors[-1].tensor_proto) == 2.0
