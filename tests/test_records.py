import csv
import dataclasses
import json

import matplotlib.image
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.errors import RunError
from trainer import __version__
from trainer.artifacts.run_record import History, RunRecord
from trainer.config import TrainConfig
from trainer.monitoring.summaries import Summaries


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


def test_a_row_that_was_kept_is_added_where_its_epoch_is_saved(tmp_path):
    """A process was killed after it saved an epoch's checkpoint, and before it wrote its row."""
    history = History(tmp_path, epochs=0)
    history.append(row(1, 0.1 + 0.2))
    history.prepare(row(2, 1 / 3))
    assert rows_of(tmp_path) == [(1, 0.1 + 0.2)]
    History(tmp_path, epochs=2)
    assert rows_of(tmp_path) == [(1, 0.1 + 0.2), (2, 1 / 3)]
    assert {path.name for path in tmp_path.iterdir()} == {"history.csv", "curves.png"}


def test_a_row_that_was_kept_and_not_saved_is_void(tmp_path):
    history = History(tmp_path, epochs=0)
    history.append(row(1, 0.5))
    history.prepare(row(2, 0.25))
    again = History(tmp_path, epochs=1)
    assert rows_of(tmp_path) == [(1, 0.5)]
    again.append(row(2, 0.125))
    assert rows_of(tmp_path) == [(1, 0.5), (2, 0.125)]


def test_a_row_that_was_written_twice_is_there_once(tmp_path):
    """Killed after it wrote history.csv, and before it removed the row that was kept."""
    history = History(tmp_path, epochs=0)
    history.append(row(1, 0.5))
    history.prepare(row(1, 0.5))
    History(tmp_path, epochs=1)
    assert rows_of(tmp_path) == [(1, 0.5)]


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


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"settings": {}}', '{"settings": []}', '{"settings": null}', "\x00"],
)
def test_a_damaged_config_is_a_fault(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        RunRecord.read(tmp_path)


def edited(config, folder, change):
    """Writes a config.json, and changes its content."""
    sizes = {"train": 3, "validation": 1}
    RunRecord(config, "float32", ("neg", "pos"), "f00d", sizes).write(folder)
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))


def test_a_config_of_a_newer_version_is_a_fault_that_names_it(small_config, tmp_path):
    def change(content):
        content["program_version"] = "9.8.7"
        content["settings"] |= {"zipper": 1, "anvil": True}

    edited(small_config, tmp_path, change)
    with pytest.raises(
        RunError, match=rf"{__version__}, does not have: 'anvil, zipper'; .*9\.8\.7"
    ):
        RunRecord.read(tmp_path)


def test_a_newer_format_is_a_fault_that_names_its_writer(small_config, tmp_path):
    def change(content):
        content |= {"format_version": 99, "program_version": "9.8.7"}

    edited(small_config, tmp_path, change)
    with pytest.raises(RunError, match=r"has format 99, written by 9\.8\.7"):
        RunRecord.read(tmp_path)


def test_a_value_that_this_version_refuses_names_the_writer(small_config, tmp_path):
    def change(content):
        content["program_version"] = "9.8.7"
        content["settings"]["decay"] = "zigzag"

    edited(small_config, tmp_path, change)
    with pytest.raises(RunError, match=r"--decay=zigzag is unknown.*9\.8\.7"):
        RunRecord.read(tmp_path)


def test_the_config_of_an_older_version_gets_what_it_lacks(small_config, tmp_path):
    """It has neither versions of the format and the program nor the newest settings."""

    def change(content):
        del content["format_version"], content["program_version"]
        del content["settings"]["warmup_steps"], content["settings"]["word_dropout"]

    edited(small_config, tmp_path, change)
    assert RunRecord.read(tmp_path).config == small_config


def test_a_setting_that_is_missing_has_its_value_of_that_time(small_config, monkeypatch):
    """A new setting may have a default that is not what the program did before."""
    (field,) = (f for f in dataclasses.fields(TrainConfig) if f.name == "punctuation")
    monkeypatch.setattr(field, "metadata", {**field.metadata, "before": "keep"})
    settings = dataclasses.asdict(small_config)
    del settings["punctuation"]
    assert TrainConfig(**settings).punctuation == "drop"
    assert TrainConfig.from_saved(settings).punctuation == "keep"
    assert TrainConfig.from_saved({**settings, "punctuation": "drop"}).punctuation == "drop"


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
