"""Writes measured tables to docs/results.md: python -m scripts.dev.results_page [FILE.json ...].

Copies the files to docs/measurements/. --json of benchmark, compare or fine_tuning writes them.
Then the table of docs/measurements/NAME.json, its command and its origin replace the lines of the
page between <!-- NAME: begin --> and <!-- NAME: end -->. Prints what changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files.paths import expand_home
from scripts.cli import commands
from scripts.dev.measure.records import ROOT, Record, read_record
from scripts.dev.measure.tables import format_comparison, format_fine_tuning, format_speed

TAKES_TEXTS = True  # the arguments are files
PAGE = ROOT / "docs" / "results.md"
MEASUREMENTS = ROOT / "docs" / "measurements"

_FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {
    "benchmark": format_speed,
    "compare": format_comparison,
    "fine_tuning": format_fine_tuning,
}


def define_flags() -> None:
    """Defines no flags."""


def main(*files: str) -> None:
    """Copies the files, and rewrites the blocks of the page."""
    given = [expand_home(name) for name in files]
    paths = {path.stem: path for path in [*sorted(MEASUREMENTS.glob("*.json")), *given]}
    before = PAGE.read_text(encoding="utf-8")
    page = format_page(before, {name: read_record(path) for name, path in paths.items()})
    for path in given:
        MEASUREMENTS.mkdir(exist_ok=True)
        _write(MEASUREMENTS / f"{path.stem}.json", path.read_text(encoding="utf-8"))
    _write(PAGE, page)


def format_page(page: str, records: Mapping[str, Record]) -> str:
    """Returns the page with new blocks for these records; all else is unchanged.

    Raises:
        UserError: The page has no block for a record, or an unknown command measured it.
    """
    for name, record in records.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, is_begun, rest = page.partition(begin)
        _, is_ended, after = rest.partition(end)
        if not is_begun or not is_ended:
            raise UserError(
                f"{PAGE.name} has no block for {name}.json; add two lines where its table belongs: "
                f"{begin.strip()} and {end.strip()}"
            )
        page = f"{before}{begin}\n{_format_block(name, record)}\n{end}{after}"
    return page


def _format_block(name: str, record: Record) -> str:
    """Formats the table, the command and the origin of a record."""
    command = record["command"]
    found = re.match(r"python -m scripts\.dev\.(\w+)", command)
    if not found or found[1] not in _FORMATS:
        raise UserError(f"{name}.json: no table is known for the command {command}")
    table = _FORMATS[found[1]](record["results"])
    origin = f"{record['date']} at commit `{record['commit']}`, on {record['processor']}"
    return f"{table}\n\n```sh\n.venv/bin/{command}\n```\n\nMeasured on {origin}.\n"


def _write(path: Path, text: str) -> None:
    """Writes a file if its text changes, and prints its name."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(PAGE.parents[1])} changed")


if __name__ == "__main__":
    commands.run(main, define_flags)
