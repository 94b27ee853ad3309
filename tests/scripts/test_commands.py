"""Several commands in one process, and their errors."""

import json
import os

from absl.flags import FLAGS

from scripts.cli import streams

COMMANDS = ("train", "evaluate", "predict", "export", "runs")
COMMANDS += ("dev.benchmark", "dev.compare")


def test_all_commands_define_their_flags_in_one_process(call, capsys):
    call("train", "--help")  # absl defines flags of its own when it is imported
    capsys.readouterr()
    before = set(FLAGS)
    for _ in range(2):
        for name in COMMANDS:
            assert call(name, "--help") == 0
            out, err = capsys.readouterr()
            assert f"scripts.{name}" in out
            assert err == ""
    assert set(FLAGS) == before


def test_two_commands_in_one_process_do_not_affect_each_other(trained, data_flags, call, capsys):
    model_dir = trained
    assert call("evaluate", f"--model_dir={model_dir}", *data_flags, "--format=json") == 0
    metrics = json.loads(capsys.readouterr().out)
    results = json.loads((model_dir / "results.json").read_text())
    assert metrics.items() <= results.items()
    assert call("predict", f"--model_dir={model_dir}", "A good film.") == 0
    first = capsys.readouterr().out
    assert call("predict", f"--model_dir={model_dir}", "A good film.") == 0
    assert capsys.readouterr().out == first


def test_flags_of_one_call_do_not_reach_the_next(trained, call, capsys):
    predict = ("predict", f"--model_dir={trained}", "A good film.")
    assert call(*predict, "--format=jsonl", "--verbosity=-1") == 0
    json.loads(capsys.readouterr().out)
    assert call(*predict) == 0
    assert capsys.readouterr().out.count("\t") == 2
    assert FLAGS["verbosity"].using_default_value


def test_a_user_error_is_exit_code_1(call, capsys):
    for arguments in (["--nosuch"], [], ["--split=none"]):
        assert call("evaluate", *arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")


def test_a_file_name_with_a_line_break_is_logged_in_one_line(call, capsys, tmp_path):
    (tmp_path / "a\nb.csv").write_text("text,label\n" + "".join(f"{n},{n % 2}\n" for n in range(4)))
    flags = (f"--dataset={tmp_path}/a\nb.csv", f"--model_dir={tmp_path / 'run'}", "--cache_dir=")
    assert call("train", *flags, "--verbosity=0") == 1
    err = capsys.readouterr().err
    assert r"a\nb.csv: the test split is taken from" in err
    assert all(line[:3] in ("err", line[:2] + ":") for line in err.splitlines())


def test_train_requires_a_data_set_and_two_columns(call, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an empty name would be this folder
    (tmp_path / "a.csv").write_text("text,label\n")
    for flag in ("--dataset=", "--text_column=", "--label_column=", "--label_column=text"):
        assert call("train", "--dataset=a.csv", flag, f"--model_dir={tmp_path / 'run'}") == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "name the data: --dataset=" in line or "must name different columns" in line


def test_a_remote_cache_is_refused(trained, call, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("evaluate", f"--model_dir={trained}", "--cache_dir=gs://b/c") == 1
    assert "--cache_dir=gs://b/c is not in a file system" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_empty_log_level_hides_the_messages_of_tensorflow(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "")
    with streams.quiet_stderr():
        pass
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
