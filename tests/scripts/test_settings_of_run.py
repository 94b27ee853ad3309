"""Settings that come from a run: when it is resumed, and from its settings.flags."""

import dataclasses
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import UserError
from scripts import train
from scripts.cli.flags import get_settings
from scripts.cli.parsing import parse_flags
from tests.helpers import read_results, write_csv
from tests.small import flags_of
from trainer import run as runs
from trainer.artifacts.run_record import RunRecord
from trainer.config import TrainConfig

# absl strips lines, and a line end is the end of a value.
NASTY = st.sampled_from([",", " ", "#", '"', "'", "\n", "\r", "\t", "\\", "=", "--", "\ud800", "é"])
TEXTS = st.lists(NASTY | st.text(max_size=3), max_size=5).map("".join)


def parse(*arguments, model_dir=None):
    """Returns the settings that train reads from these arguments."""
    with flags_of(train):
        parse_flags(["train", *arguments], takes_texts=False)
        return get_settings(model_dir)


def write_flags(config, folder, **record):
    RunRecord(config, "float32", ("a", "b"), "f00d", {}, **record).write(folder)
    return folder / "settings.flags"


@given(TEXTS, TEXTS)
@example("a, b #c \"d\" 'e' =", " # //")
@example("\t", "a\nb")
def test_settings_flags_are_read_as_written_or_left_out(label, folder):
    config = TrainConfig(positive_label=label, data_dir=folder, batch_size=7, dropout=0.1 + 0.2)
    with tempfile.TemporaryDirectory() as name:
        path = write_flags(config, Path(name))
        lines, parsed = path.read_text().splitlines(), parse(f"--flagfile={path}")
    assert (parsed.batch_size, parsed.dropout) == (7, 0.1 + 0.2)
    for setting, value in (("positive_label", label), ("data_dir", folder)):
        is_left_out = any(line.startswith(f"# --{setting} is left out: ") for line in lines)
        assert getattr(parsed, setting) == ("" if is_left_out else value)
        if value == value.strip() and value.isprintable():
            assert not is_left_out


def test_settings_flags_have_only_settings_that_differ(small_config, tmp_path):
    path = write_flags(small_config, tmp_path)
    comment, *lines = path.read_text().splitlines()
    assert comment.startswith("# ")
    assert {"--batch_size=16", "--dataset=imdb_offline"} < set(lines)
    assert not [line for line in lines if line.startswith("--seed")]
    assert parse(f"--flagfile={path}") == small_config


def test_settings_flags_of_data_in_memory_ask_for_the_data(tmp_path):
    path = write_flags(TrainConfig(), tmp_path, data={"arrays": "f00d"})
    with pytest.raises(UserError, match="name the data: dataset=FILE"):
        parse(f"--flagfile={path}")


def test_a_run_resumes_with_its_settings_and_makes_another_run(run, tmp_path):
    data = write_csv(tmp_path / "a.csv")
    flags = ["--encoder=pooled_lstm", "--units=4", "--embedding_dim=4", "--batch_size=16"]
    flags += [f"--dataset={data}", f"--cache_dir={tmp_path / 'cache'}"]
    first, other = tmp_path / "first", tmp_path / "other"

    def call_train(folder, *arguments):
        done = run("train", f"--model_dir={folder}", "--format=json", *arguments)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    call_train(first, *flags, "--epochs=1")
    assert call_train(first, "--epochs=2")["epochs"] == 2
    assert call_train(first)["epochs"] == 2
    assert "--epochs=2\n" in (first / "settings.flags").read_text()
    assert json.loads((first / "config.json").read_text())["settings"]["units"] == 4
    call_train(other, f"--flagfile={first / 'settings.flags'}")
    assert read_results(other) == read_results(first)
    done = run("train", f"--model_dir={first}", "--units=5")
    assert done.returncode == 1
    assert "other settings: units (4, not 5)" in done.stderr.decode()


def test_a_new_run_has_the_defaults_and_a_resumed_run_its_settings(small_config, tmp_path):
    assert parse(model_dir=tmp_path) == TrainConfig()
    write_flags(small_config, tmp_path)
    assert parse(model_dir=tmp_path) == small_config
    found = parse("--seed=0", "--epochs=9", model_dir=tmp_path)
    assert found == dataclasses.replace(small_config, epochs=9)


def test_settings_flags_that_no_run_wrote_are_not_replaced(small_config, tmp_path):
    (tmp_path / "settings.flags").write_text("--seed=1\n")
    with pytest.raises(UserError, match=r"contains settings\.flags, which a new run would replace"):
        runs.train(small_config, tmp_path)
