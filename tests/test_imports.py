"""The layers of the product code: the direction of imports, and sizes of folders and files."""

import ast

import pytest

from tests.small import ROOT

PACKAGES = ("pipeline", "model", "trainer", "scripts")
# A module may import from its own row and from the rows below it. In a row, packages at the same
# level import neither each other.
LAYERS = [
    {"scripts"},
    {"trainer"},  # its __init__.py: the public Python API
    {"trainer.run"},
    {"trainer.preparation"},
    {"trainer.loop", "trainer.agreement"},
    {"trainer.step"},
    {"trainer.artifacts"},
    {"trainer.building"},
    {"trainer.objectives"},
    {"trainer.evaluation", "trainer.data"},
    {"trainer.monitoring"},
    {"trainer.runtime"},
    {"trainer.config"},
    {"pipeline", "model"},
]
MOST_MODULES = 8
MOST_LINES = 350

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FOLDERS = sorted({path.parent for path in FILES})


def module_of(path):
    """Returns the dotted name of a file's module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in FILES}


def imports_of(path):
    """Yields the modules that a file imports, also in functions and in TYPE_CHECKING blocks."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


def unit_of(module):
    """Returns the name in LAYERS that a module belongs to; None for a library."""
    first, *rest = module.split(".")
    if first not in PACKAGES:
        return None
    return f"trainer.{rest[0]}" if first == "trainer" and rest else first


def level_of(unit):
    (level,) = (number for number, units in enumerate(LAYERS) if unit in units)
    return level


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path):
    own = unit_of(module_of(path))
    for module in imports_of(path):
        unit = unit_of(module)
        if unit in (None, own) or (unit == "trainer" and module == "trainer"):  # its __version__
            continue
        assert level_of(unit) > level_of(own), f"{own} imports {module}"


def test_only_scripts_import_absl():
    for path in FILES:
        if path.relative_to(ROOT).parts[0] != "scripts":
            assert not [name for name in imports_of(path) if name.split(".")[0] == "absl"], path


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_folder_is_a_package_with_a_docstring_and_few_modules(folder):
    init = folder / "__init__.py"
    assert ast.get_docstring(ast.parse(init.read_text(encoding="utf-8")))
    assert len(list(folder.glob("*.py"))) - 1 <= MOST_MODULES


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
