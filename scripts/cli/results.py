"""Prints the results of train and evaluate."""

from __future__ import annotations

import json
from collections.abc import Mapping

from absl import flags

from pipeline.errors import escape
from scripts.cli.flags import FLAGS


def define_format_flag() -> None:
    """Defines --format."""
    flags.DEFINE_enum("format", "tsv", ("tsv", "json"), "the output format")


def print_results(results: Mapping[str, object]) -> None:
    """Prints names and values: a line with a tab for each, or JSON, as --format says."""
    if FLAGS.format == "json":
        print(json.dumps(results, indent=2))
        return
    for name, value in results.items():
        print(name, escape(value) if isinstance(value, str) else json.dumps(value), sep="\t")
