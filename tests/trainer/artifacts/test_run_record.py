"""config.json of this, older and newer versions."""

import json

import pytest

from pipeline.errors import RunError
from trainer import __version__
from trainer.artifacts.run_record import RunRecord


def test_the_run_record_is_read_as_written(small_config, tmp_path):
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
def test_a_damaged_config_is_a_run_error(tmp_path, content):
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


def test_a_config_of_a_newer_version_is_refused_by_its_version(small_config, tmp_path):
    def change(content):
        content["program_version"] = "9.8.7"
        content["settings"] |= {"zipper": 1, "anvil": True}

    edited(small_config, tmp_path, change)
    with pytest.raises(
        RunError, match=rf"program, {__version__} \(.*'zipper'\); .* wrote it: 9\.8\.7"
    ):
        RunRecord.read(tmp_path)


def test_a_config_of_a_newer_format_is_refused_by_its_version(small_config, tmp_path):
    def change(content):
        content |= {"format_version": 99, "program_version": "9.8.7"}

    edited(small_config, tmp_path, change)
    with pytest.raises(RunError, match=r"\(format 99\); .* wrote it: 9\.8\.7"):
        RunRecord.read(tmp_path)


def test_an_unknown_value_names_the_version_that_wrote_it(small_config, tmp_path):
    def change(content):
        content["program_version"] = "9.8.7"
        content["settings"]["decay"] = "zigzag"

    edited(small_config, tmp_path, change)
    with pytest.raises(RunError, match=r"decay=zigzag is unknown.*9\.8\.7"):
        RunRecord.read(tmp_path)


def test_missing_settings_of_an_older_config_get_defaults(small_config, tmp_path):
    """It has no version of format or program, and not the newest settings."""

    def change(content):
        del content["format_version"], content["program_version"]
        del content["settings"]["warmup"], content["settings"]["word_dropout"]

    edited(small_config, tmp_path, change)
    assert RunRecord.read(tmp_path).config == small_config
