"""Measures speed: python -m scripts.dev.benchmark [--sections=...] [flags of train].

The sections training, evaluation and prediction compare this project with `fit`, `evaluate` and
`predict` of the tutorial's Keras model. Both read the same texts; Keras reads them padded to
--sequence_length. Other sections:

  input      the fraction of training time spent waiting for batches
  summaries  the fraction of an epoch spent writing TensorBoard events
  startup    the time until the end of the first step
  replicas   an epoch on 1, 2, 4 and 8 GPUs or, without a GPU, on replicas that share the cores
  scale      start-up and 100 steps on 1, 10 and 100 copies of the train split

Each measurement runs in its own process with its default number of threads, and the measurements
alternate (A B A B). Progress goes to stderr, the report (Markdown tables) to stdout.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import operator
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from absl import flags

from scripts.cli import commands, streams
from scripts.cli.flags import FLAGS, define_setting_flags, get_settings
from scripts.dev.measuring import Measurement, check_names, format_table, measure_in_process
from trainer.config import TrainConfig

Medians = dict[str, float]
Measurements = dict[str, list[Measurement]]

_DEFAULT_SECTIONS = ("training", "evaluation", "prediction", "input", "summaries", "startup")
_SECTIONS = (*_DEFAULT_SECTIONS, "replicas", "scale")

# Each column of the report, from the medians of a measurement; a measurement without one of these
# values has no such column.
_COLUMNS: dict[str, Callable[[Medians], float]] = {
    "seconds": operator.itemgetter("seconds"),
    "texts/s": lambda m: m["examples"] / m["seconds"],
    "tokens/s": lambda m: m["tokens"] / m["seconds"],
    "relative to Keras": lambda m: m["seconds"] / m["seconds of Keras"],
    "relative speed": lambda m: m["seconds of one replica"] / m["seconds"],
    "share of peak, %": lambda m: 100 * m["gigaflops"] / m["seconds"] / m["peak"],
    "waiting for a batch, %": lambda m: 100 * m["waited"] / m["seconds"],
    "events for TensorBoard, %": lambda m: 100 * m["summaries"] / m["seconds"],
    "imports, s": operator.itemgetter("imports"),
    "examples, empty cache, s": operator.itemgetter("examples, empty cache"),
    "examples, full cache, s": operator.itemgetter("examples, full cache"),
    "model and first step, s": operator.itemgetter("model and first step"),
    "from text to token ids, ms each": lambda m: 1000 * m["reading"] / m["examples"],
    "100 steps, s": operator.itemgetter("100 steps"),
    "memory, MB": operator.itemgetter("megabytes"),
    "texts": operator.itemgetter("examples"),
}


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_list(
        "sections",
        ",".join(_DEFAULT_SECTIONS),
        "what to measure; also replicas, and scale, which needs 6 GB of disk",
    )
    flags.DEFINE_integer("repeats", 2, "how often to repeat each measurement", lower_bound=1)
    flags.DEFINE_integer(
        "examples", 0, "use only this many examples of each split; 0: all", lower_bound=0
    )
    flags.DEFINE_string("json", "", "file to write all measurements to")
    flags.DEFINE_string("measure", "", "run only this measurement, in this process, and print JSON")
    define_setting_flags()


def main() -> None:
    """Runs the measurements, and prints medians and ratios."""
    config = get_settings()
    if FLAGS.measure:
        print(json.dumps(_measure(FLAGS.measure, config)))
        return
    check_names("sections", _SECTIONS)
    measurements = _measure_all(FLAGS.sections, FLAGS.repeats)
    print(_format_report(measurements))
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(measurements, indent=2) + "\n", encoding="utf-8")


def _measure(name: str, config: TrainConfig) -> Measurement:
    """Measures in this process; adds its peak memory in MiB."""
    start = time.monotonic()
    with streams.quiet_stderr():
        from scripts.dev.measurements import MEASURES, devices
    imports = {"imports": time.monotonic() - start} if name == "startup" else {}
    devices.set_threads(config.batch_size)
    values = imports | MEASURES[name](config)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return values | {"megabytes": peak // (1024 * 1024 if sys.platform == "darwin" else 1024)}


def _measure_all(sections: list[str], repeats: int) -> Measurements:
    with streams.quiet_stderr():
        from scripts.dev.measurements import MEASURES, available_devices
    names = [name for name in MEASURES if _section_of(name) in ("peak", *sections)]
    if "replicas" in sections:
        most = available_devices()
        names = [n for n in names if _section_of(n) != "replicas" or int(n.split()[1]) <= most]
    measurements: Measurements = {name: [] for name in names}
    for repeat in range(1, repeats + 1):
        for name, results in measurements.items():
            results.append(_measure_in_process(name))
            streams.print_message(f"{repeat}/{repeats} {name}: {results[-1]}")
    return measurements


def _section_of(name: str) -> str:
    return name.removeprefix("keras ").split()[0]


def _measure_in_process(name: str) -> Measurement:
    uses_all_threads = name == "peak" or name.startswith("keras")  # TensorFlow's default, 0
    environment = {"TF_NUM_INTRAOP_THREADS": "0"} if uses_all_threads else {}
    return measure_in_process([*sys.argv[1:], f"--measure={name}"], environment)


def _format_report(measurements: Measurements) -> str:
    """Formats the medians; consecutive measurements with the same columns share a table."""
    medians: dict[str, Medians] = {
        name: {value: statistics.median(r[value] for r in results) for value in results[0]}
        for name, results in measurements.items()
    }
    peak = medians.pop("peak")["gigaflops_per_second"]
    repeats = len(measurements["peak"])
    parts = [f"Medians of {repeats}; matrix products reach {peak:.0f} GFLOP/s on this machine."]
    for name, values in medians.items():
        values["peak"] = peak
        if (keras := f"keras {_section_of(name)}") in medians:
            values["seconds of Keras"] = medians[keras]["seconds"]
        if name.startswith("replicas"):
            values["seconds of one replica"] = medians["replicas 1"]["seconds"]
    rows = [(name, _cells(values)) for name, values in medians.items()]
    for titles, group in itertools.groupby(rows, key=lambda row: tuple(row[1])):
        table = [[name, *cells.values()] for name, cells in group]
        parts.append(format_table(["", *titles], table))
    return "\n\n".join(parts)


def _cells(values: Medians) -> dict[str, str]:
    """Returns the formatted values by column."""
    cells = {}
    for title, compute in _COLUMNS.items():
        with contextlib.suppress(KeyError):
            value = compute(values)
            cells[title] = f"{value:.2f}" if value < 100 else f"{value:.0f}"
    return cells


if __name__ == "__main__":
    commands.run(main, define_flags)
