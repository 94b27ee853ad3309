"""README and docs name only existing things."""

import dataclasses
import re
from pathlib import Path

import pytest

from scripts.dev.settings_page import PAGE, format_page
from trainer.config import TrainConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which names removed things
COMMANDS = [*(ROOT / "scripts").glob("*.py"), *(ROOT / "scripts" / "dev").glob("*.py")]

# Flags that are not settings: of all commands, by absl and by scripts/cli/flags.py.
COMMON_FLAGS = {"help", "flagfile", "verbosity", "model_dir"}
# Flags of other programs that the pages call.
FOREIGN_FLAGS = {
    "dir",  # saved_model_cli
    "dist",  # pytest
    *("headless", "hide", "screenshot", "virtual", "window"),  # chromium
    "input_exprs",
    "logdir",  # tensorboard
    "no",  # --no-deps of pip
    "rm",  # docker
    "signature_def",
    "tag_set",
}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
current_pages = pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)


def text_of(page):
    return page.read_text(encoding="utf-8")


def defined_flags():
    """The names of all flags, read from the code of the commands."""
    settings = {field.name for field in dataclasses.fields(TrainConfig)}
    defined = {
        name
        for command in COMMANDS
        for name in re.findall(r'flags\.DEFINE_\w+\(\s*"(\w+)"', text_of(command))
    }
    return settings | defined | COMMON_FLAGS | FOREIGN_FLAGS


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_has_at_most_1500_words():
    assert len(text_of(ROOT / "README.md").split()) <= 1500


@pages
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


@current_pages
def test_flags_exist(page):
    named = set(re.findall(r"(?<![\w-])--([a-z]\w*)", text_of(page)))
    assert named <= defined_flags()


@current_pages
def test_modules_exist(page):
    for name in re.findall(r"\bscripts((?:\.[a-z]\w*)+)", text_of(page)):
        module = ROOT.joinpath("scripts", *name.split(".")[1:])
        assert module.with_suffix(".py").is_file(), name


@current_pages
def test_files_of_the_code_exist(page):
    for name in re.findall(
        r"\b(?:pipeline|model|trainer|scripts|tests)/[\w/]*\.\w+", text_of(page)
    ):
        assert (ROOT / name).is_file(), name


@current_pages
def test_named_tests_exist(page):
    files = {path.name: text_of(path) for path in (ROOT / "tests").rglob("test_*.py")}
    words = set(re.findall(r"(?<!-)\btest_\w+(?:\.py)?", text_of(page)))
    for name in words:
        exists = name in files or any(f"def {name}(" in code for code in files.values())
        assert exists, name


@current_pages
def test_recipes_exist(page):
    for name in re.findall(r"\b(?!settings\b)(\w+)\.flags\b", text_of(page)):
        assert (ROOT / "scripts" / "recipes" / f"{name}.flags").is_file(), name


@pages
def test_no_page_names_a_folder_of_a_developers_machine(page):
    assert not re.findall(r"(?<![\w.$])/(?:home|tmp|root|work|Users)/\S*", text_of(page))


def test_the_settings_page_is_current():
    assert text_of(PAGE) == format_page(), "run: python -m scripts.dev.settings_page"


@pytest.mark.slow
def test_the_examples_of_the_python_page_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = text_of(ROOT / "docs" / "python.md")
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(
            re.sub(r"TrainConfig\((?=\n|\w+=\"none|\*)", 'TrainConfig(cache_dir="cache",', block),
            names,
        )
    run = names["run"]
    assert run.label_names == tuple(sorted(set(names["frame"]["kind"])))
    assert run.predict(["A quiet, moving film."]).shape == (1, 4)
    assert run.classify(["A quiet, moving film."]) == ["rotten_tomatoes good"]
    assert run.evaluate(names["frame"]["text"], names["frame"]["kind"])["accuracy"] > 0.8
    merged = names["trainer"].load("runs/merged")
    assert merged.label_names == ("imdb bad", "imdb good", "short")
    assert names["trainer"].load("runs/lstm").config.epochs == 2
    assert "ngrams=9 is out of range; it must be at least 0" in capsys.readouterr().out
