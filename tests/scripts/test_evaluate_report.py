"""evaluate's report replaces only its own files."""

import json
import shutil

import pytest

from trainer.evaluation import report


def test_metrics_are_printed_if_the_report_cannot_be_written(
    trained, data_flags, call, capsys, tmp_path
):
    """A file replaces the folder, because root may write anywhere."""
    model_dir = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(model_dir / "evaluation", ignore_errors=True)
    (model_dir / "evaluation").write_text("in the way")
    assert call("evaluate", f"--model_dir={model_dir}", *data_flags, "--format=json") == 0
    out, err = capsys.readouterr()
    results = json.loads((model_dir / "results.json").read_text())
    assert json.loads(out).items() <= results.items()
    (line,) = (line for line in err.splitlines() if "report" in line)
    assert f"report could not be written, but the metrics are valid: {model_dir}/evaluation" in line


@pytest.mark.parametrize("name", [report.ERRORS, report.CURVES])
def test_a_report_replaces_no_other_file(trained, data_flags, call, capsys, tmp_path, name):
    (tmp_path / name).write_text("mine")
    evaluate = ("evaluate", f"--model_dir={trained}", *data_flags)
    assert call(*evaluate, f"--report_dir={tmp_path}") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{name} is not from a report of scripts.evaluate" in err
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(("name", "reason"), [("a", "is a file"), ("a/b", "cannot be made")])
def test_a_report_needs_a_folder(trained, data_flags, call, capsys, tmp_path, name, reason):
    (tmp_path / "a").write_text("mine")
    folder = tmp_path / name
    assert call("evaluate", f"--model_dir={trained}", *data_flags, f"--report_dir={folder}") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"error: --report_dir={folder} {reason}" in err
    assert (tmp_path / "a").read_text() == "mine"


def test_a_report_replaces_an_earlier_one(trained, data_flags, call, tmp_path):
    evaluate = ("evaluate", f"--model_dir={trained}", *data_flags)
    for _ in range(2):
        assert call(*evaluate, f"--report_dir={tmp_path}", "--split=validation") == 0
    assert {path.name for path in tmp_path.iterdir()} == {report.ERRORS, report.CURVES}
