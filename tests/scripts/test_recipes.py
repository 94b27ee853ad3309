"""Recipes: flag files of existing settings."""

import re

import pytest

from tests.small import ROOT


def recipes():
    return sorted(path.name for path in (ROOT / "scripts" / "recipes").iterdir())


@pytest.mark.parametrize("file", recipes())
@pytest.mark.parametrize("form", ["{stem}", "{name}", "recipes/{name}"])
def test_a_recipe_named_without_its_folder_is_suggested(call, capsys, monkeypatch, file, form):
    monkeypatch.chdir(ROOT)
    name = form.format(stem=file.removesuffix(".flags"), name=file)
    assert call("train", f"--flagfile={name}") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --flagfile={name}: ")
    assert line.endswith(f"did you mean scripts/recipes/{file}?")


def test_an_unknown_flagfile_error_lists_all_recipes(call, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert call("train", "--flagfile", "nosuch") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --flagfile=nosuch: ")
    for file in recipes():
        assert str(ROOT / "scripts" / "recipes" / file) in line


def test_a_flagfile_that_is_not_text_is_a_user_error(call, capsys, tmp_path):
    (tmp_path / "a.flags").write_bytes(b"\x89PNG")
    assert call("train", f"--flagfile={tmp_path / 'a.flags'}") == 1
    assert capsys.readouterr().err == (
        "error: a --flagfile is not text in UTF-8; name a file with flags\n"
    )


def test_each_recipe_has_only_existing_settings(run):
    for recipe in (ROOT / "scripts" / "recipes").glob("*.flags"):
        command = recipe.read_text().splitlines()[0]
        assert re.match(r"# python -m scripts\.train --model_dir=runs/", command)
        assert f"--flagfile=scripts/recipes/{recipe.name}" in command
        done = run("train", f"--flagfile={recipe}", "--model_dir=")
        assert b"--model_dir=runs/NAME" in done.stderr
