"""Commands as a whole: several in one process, and what they leave alone."""

import dataclasses
import hashlib
import json
import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest
from absl.flags import FLAGS

from tests.conftest import ROOT, SMALL
from trainer.artifacts.export import export
from trainer.artifacts.model_card import model_card
from trainer.artifacts.run_record import RunRecord
from trainer.artifacts.trained_run import load
from trainer.evaluation import report

COMMANDS = ("train", "pretrain", "evaluate", "predict", "export", "benchmark", "compare")
COMMANDS += ("screenshots",)


def test_all_commands_may_be_imported_and_define_their_flags_in_one_process(call, capsys):
    before = set(FLAGS)
    for _ in range(2):
        for name in COMMANDS:
            assert call(name, "--help") == 0
            out, err = capsys.readouterr()
            assert f"scripts.{name}" in out
            assert err == ""
    assert set(FLAGS) == before


def test_two_commands_in_one_process_answer_as_in_two(trained, flags, call, capsys):
    model_dir, _ = trained
    assert call("evaluate", f"--model_dir={model_dir}", *flags_of(flags), "--format=json") == 0
    figures = json.loads(capsys.readouterr().out)
    results = json.loads((model_dir / "results.json").read_text())
    assert figures.items() <= results.items()
    assert call("predict", f"--model_dir={model_dir}", "A good film.") == 0
    first = capsys.readouterr().out
    assert call("predict", f"--model_dir={model_dir}", "A good film.") == 0
    assert capsys.readouterr().out == first


def flags_of(flags):
    return [flag for flag in flags if flag.startswith(("--data_dir", "--cache_dir"))]


def test_a_flag_of_one_call_is_not_that_of_the_next(trained, call, capsys):
    predict = ("predict", f"--model_dir={trained[0]}", "A good film.")
    assert call(*predict, "--format=jsonl", "--verbosity=-1") == 0
    json.loads(capsys.readouterr().out)
    assert call(*predict) == 0
    assert capsys.readouterr().out.count("\t") == 2
    assert FLAGS["verbosity"].using_default_value


def test_a_mistake_in_a_call_is_its_exit_code(call, capsys):
    for arguments in (["--nosuch"], [], ["--split=none"]):
        assert call("evaluate", *arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")


def test_a_file_name_of_two_lines_is_one_line_of_the_log(call, capsys, tmp_path):
    (tmp_path / "a\nb.csv").write_text("text,label\n" + "".join(f"{n},{n % 2}\n" for n in range(4)))
    flags = (f"--dataset={tmp_path}/a\nb.csv", f"--model_dir={tmp_path / 'run'}", "--cache_dir=")
    assert call("train", *flags, "--verbosity=0") == 1
    err = capsys.readouterr().err
    assert r"a\nb.csv: the test split is cut off" in err
    assert all(line[:3] in ("err", line[:2] + ":") for line in err.splitlines())


def test_train_names_the_data_and_two_columns(call, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an empty name would be this folder
    (tmp_path / "a.csv").write_text("text,label\n")
    for flag in ("--dataset=", "--text_column=", "--label_column=", "--label_column=text"):
        assert call("train", "--dataset=a.csv", flag, f"--model_dir={tmp_path / 'run'}") == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: name the data: --dataset=") or "two columns" in line


def recipes():
    return sorted(path.name for path in (ROOT / "scripts" / "recipes").iterdir())


@pytest.mark.parametrize("file", recipes())
@pytest.mark.parametrize("form", ["{stem}", "{name}", "recipes/{name}"])
def test_a_recipe_without_its_folder_is_offered_with_it(call, capsys, monkeypatch, file, form):
    monkeypatch.chdir(ROOT)
    name = form.format(stem=file.removesuffix(".flags"), name=file)
    assert call("train", f"--flagfile={name}") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --flagfile={name}: ")
    assert line.endswith(f"did you mean scripts/recipes/{file}?")


def test_an_unknown_flagfile_is_told_with_all_recipes(call, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert call("train", "--flagfile", "nosuch") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --flagfile=nosuch: ")
    for file in recipes():
        assert str(ROOT / "scripts" / "recipes" / file) in line


# Python


def test_one_text_in_place_of_several_is_a_type_error(trained):
    run = load(str(trained[0]))
    for text in ("one text", b"one text"):
        with pytest.raises(TypeError, match=r"a list of texts; for one text, write predict\(\[text\]\)"):
            run.predict(text)
    with pytest.raises(TypeError, match="not int"):
        run.predict([3])
    with pytest.raises(TypeError, match="not list"):
        run.explain(["one text"])
    assert (run.predict(["a fine film"]) == run.predict([b"a fine film"])).all()


# Evaluation


def test_figures_are_printed_where_the_report_cannot_be_written(
    trained, flags, call, capsys, tmp_path
):
    """A file stands in the place of the folder, as nothing stops root from writing."""
    model_dir = shutil.copytree(trained[0], tmp_path / "run")
    shutil.rmtree(model_dir / "evaluation", ignore_errors=True)
    (model_dir / "evaluation").write_text("in the way")
    assert call("evaluate", f"--model_dir={model_dir}", *flags_of(flags), "--format=json") == 0
    out, err = capsys.readouterr()
    results = json.loads((model_dir / "results.json").read_text())
    assert json.loads(out).items() <= results.items()
    (line,) = (line for line in err.splitlines() if "report" in line)
    assert f"not written, but the figures are complete: {model_dir}/evaluation" in line


def test_a_cache_that_is_no_folder_of_this_machine_is_refused(
    trained, call, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert call("evaluate", f"--model_dir={trained[0]}", "--cache_dir=gs://b/c") == 1
    assert "--cache_dir=gs://b/c is not in a file system" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [report.ERRORS, report.CURVES])
def test_a_report_replaces_no_other_file(trained, flags, call, capsys, tmp_path, name):
    (tmp_path / name).write_text("mine")
    evaluate = ("evaluate", f"--model_dir={trained[0]}", *flags_of(flags))
    assert call(*evaluate, f"--report_dir={tmp_path}") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{name} is not from a report of scripts.evaluate" in err
    assert (tmp_path / name).read_text() == "mine"


def test_a_report_replaces_an_earlier_one(trained, flags, call, tmp_path):
    evaluate = ("evaluate", f"--model_dir={trained[0]}", *flags_of(flags))
    for _ in range(2):
        assert call(*evaluate, f"--report_dir={tmp_path}", "--split=validation") == 0
    assert {path.name for path in tmp_path.iterdir()} == {report.ERRORS, report.CURVES}


# Other things in the same folder


def bystanders():
    """Paths of a user's own things, of the kinds that programs take for their own."""
    places = ("", ".git/", ".ssh/", "my.project/", "old.d/", "checkpoints.old/", "data/train/")
    files = ("notes.txt", "a.new", "a.tmp", ".hidden", "answers.tsv.new", ".answers.tsv.tmp")
    files += ("ckpt-1.index", "ckpt-2_temp", "checkpoint", "entry.json", "values.bin", "new")
    paths = [place + file for place in places for file in files]
    paths += [f"{folder}/mine" for folder in ("export.new", ".export.new", "export.old", "run.new")]
    paths += ["texts-0123456789abcdef0123/values.bin", "tokens-0.x/labels.npy", "unfinished/a.b/c"]
    paths += [".text-sentiment-0123.unfinished/new", "text-sentiment-cache/mine.d/file", "lock"]
    paths += ["text-sentiment-cache/unfinished/texts-0.abc/values.bin", "train/events.out.tfevents"]
    return paths


def fill(folder):
    """Writes them, old and new in turn."""
    for number, name in enumerate(bystanders()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"mine {number}")
        if number % 2:
            days = time.time() - 400 * 86_400
            os.utime(path, (days, days))
    (folder / "link").symlink_to("notes.txt")
    (folder / "dangling").symlink_to("nowhere")
    for path in folder.rglob("*"):
        if path.is_dir() and path.name != "text-sentiment-cache":
            os.utime(path, (time.time() - 400 * 86_400,) * 2)


def state_of(folder):
    """What is in a folder: name, kind, permissions, time of change and content."""
    found = {}
    for path in folder.rglob("*"):
        about = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        time_of_change = 0 if path.is_dir() else about.st_mtime_ns  # new things make a folder new
        found[path.relative_to(folder)] = (about.st_mode, time_of_change, content)
    return found


def test_every_command_leaves_alone_what_is_beside_its_files(
    call, data_dir, tmp_path, monkeypatch, capsys
):
    """All of them in one folder full of a user's things, which is the folder of the cache too."""
    fill(tmp_path)
    before = state_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    settings = {**SMALL, "data_dir": data_dir, "cache_dir": ".", "cache_gb": 0, "epochs": 1}
    settings |= {"encoder": "none", "ngrams": 1}
    train = [f"--{name}={value}" for name, value in settings.items()]
    here = (f"--data_dir={data_dir}", "--cache_dir=.", "--cache_gb=0")
    commands = [
        ("train", "--model_dir=run", *train),
        ("train", "--model_dir=run", *train, "--epochs=2"),
        ("evaluate", "--model_dir=run", *here),
        ("evaluate", "--model_dir=run", *here, "--report_dir=."),
        ("predict", "--model_dir=run", "--output=answers.tsv", "A good film."),
        ("export", "--model_dir=run", "--export_dir=export", "--export_format=keras"),
        ("export", "--model_dir=run", "--export_dir=export", "--export_format=keras"),
    ]
    for command in commands:
        assert call(*command) == 0, capsys.readouterr().err
        after = state_of(tmp_path)
        assert {path: after.get(path) for path in before} == before, command
    made = {path.parts[0] for path in set(state_of(tmp_path)) - set(before)}
    assert made == {
        "run",
        "text-sentiment-cache",
        "answers.tsv",
        "export",
        "errors.csv",
        "curves.png",
    }


@pytest.mark.parametrize(
    "command", [("train", "--model_dir=."), ("export", "--model_dir=run", "--export_dir=.")]
)
def test_a_folder_full_of_other_things_is_refused(
    call, trained, flags, tmp_path, monkeypatch, capsys, command
):
    fill(tmp_path)
    shutil.copytree(trained[0], tmp_path / "run")
    before = state_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert call(*command, *(flags if command[0] == "train" else ())) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert state_of(tmp_path) == before


@pytest.mark.parametrize(
    "name",
    ["history.csv", "results.json", "curves.png", "best/mine", "checkpoints/mine"]
    + [f"{split}/events.out.tfevents.1.host" for split in ("train", "validation")]
    + ["validation/words.tsv", "vocabulary.txt"],
)
def test_a_new_run_replaces_nothing_that_is_in_its_folder(call, flags, tmp_path, capsys, name):
    """Such as the events that another program has written to train/ and validation/."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = state_of(tmp_path)
    assert call("train", f"--model_dir={tmp_path}", *flags) == 1
    assert f"{name.removesuffix('/mine')}" in capsys.readouterr().err
    assert state_of(tmp_path) == before


def test_a_new_run_goes_on_after_its_vocabulary(call, trained, flags, tmp_path):
    """A process was killed after it wrote vocabulary.txt, and before config.json."""
    shutil.copy(trained[0] / "vocabulary.txt", tmp_path)
    assert call("train", f"--model_dir={tmp_path}", *flags, "--max_steps=1") == 0


# What is published


def contents(folder):
    """All bytes of the files of a folder, unzipped."""
    for path in folder.rglob("*"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                yield from ((path, file.read(name)) for name in file.namelist())
        elif path.is_file():
            yield path, path.read_bytes()


@pytest.mark.parametrize("export_format", ["saved_model", "keras"])
def test_an_export_names_no_folder_of_the_machine(trained, tmp_path, export_format):
    export(trained[0], tmp_path / "export", export_format)
    config = RunRecord.read(trained[0]).config
    folders = (ROOT, Path.home(), config.data_dir, config.cache_dir, trained[0])
    for path, content in contents(tmp_path / "export"):
        for folder in (*folders, tmp_path):
            assert os.fsencode(folder) not in content, path


def test_a_model_card_names_no_folder_of_the_machine(trained, small_config):
    """Every setting that can be a path is one here."""
    record = RunRecord.read(trained[0])
    paths = {
        field.name: f"/home/me/secret/{field.name}"
        for field in dataclasses.fields(small_config)
        if type(field.default) is str and not field.metadata["choices"]
    }
    for name in ("encoder", "profile_steps", "init_from", "encoding", "delimiter"):  # no paths
        del paths[name]
    config = dataclasses.replace(small_config, ngrams=2, **paths)
    record = dataclasses.replace(record, config=config)
    card = model_card(trained[0], record, best_epoch=1, loss=0.5)
    assert "secret" not in card
    assert "The data set is `dataset`. Numbers of examples:" in card
    assert "| teacher | teacher |" in card
    assert "cache_dir" not in card


def test_a_default_export_writes_through_no_link(call, trained, tmp_path, capsys):
    model_dir = shutil.copytree(trained[0], tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    (model_dir / "export").symlink_to(tmp_path / "elsewhere")
    assert call("export", f"--model_dir={model_dir}", "--export_format=keras") == 1
    assert "is a link" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())
