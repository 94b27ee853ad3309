"""Measures speed: python -m scripts.dev.benchmark [--sections=...] [flags of train].

The sections training, evaluation and prediction compare this project with `fit`, `evaluate` and
`predict` of the tutorial's Keras model. Both read the same texts; Keras reads them padded to
--sequence_length. Other sections:

  input      the fraction of training time spent waiting for batches
  summaries  the fraction of an epoch spent writing TensorBoard events
  startup    the time until the end of the first step

Each measurement runs in its own process with its default number of threads, and the measurements
alternate (A B A B). Progress goes to stderr, the report (Markdown tables) to stdout.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from pathlib import Path

from absl import flags

from scripts.cli import commands, streams
from scripts.cli.flags import FLAGS, define_setting_flags, get_settings
from scripts.dev.measuring import Measurement, check_names, format_table, measure_in_process
from trainer.config import TrainConfig

Measurements = dict[str, list[Measurement]]

_SECTIONS = ("training", "evaluation", "prediction", "input", "summaries", "startup")


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_list("sections", list(_SECTIONS), "what to measure")
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
    imports = {"imports, s": time.monotonic() - start} if name == "startup" else {}
    devices.set_threads(config.batch_size)
    values = imports | MEASURES[name](config)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return values | {"memory, MB": peak // (1024 * 1024 if sys.platform == "darwin" else 1024)}


def _measure_all(sections: list[str], repeats: int) -> Measurements:
    with streams.quiet_stderr():
        from scripts.dev.measurements import MEASURES
    measurements: Measurements = {name: [] for name in MEASURES if _section_of(name) in sections}
    for repeat in range(1, repeats + 1):
        for name, results in measurements.items():
            results.append(_measure_in_process(name))
            streams.print_message(f"{repeat}/{repeats} {name}: {results[-1]}")
    return measurements


def _section_of(name: str) -> str:
    return name.removeprefix("keras ")


def _measure_in_process(name: str) -> Measurement:
    is_keras = name.startswith("keras")  # with TensorFlow's default number of threads, 0
    environment = {"TF_NUM_INTRAOP_THREADS": "0"} if is_keras else {}
    return measure_in_process(
        "scripts.dev.benchmark", [*sys.argv[1:], f"--measure={name}"], environment
    )


def _format_report(measurements: Measurements) -> str:
    """Formats the medians; measurements with the same columns share a table."""
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    for name, results in measurements.items():
        medians = {title: _median(results, title) for title in results[0]}
        if keras := measurements.get(f"keras {_section_of(name)}"):
            medians["relative to Keras"] = medians["seconds"] / _median(keras, "seconds")
        cells = [f"{value:.2f}" if value < 100 else f"{value:.0f}" for value in medians.values()]
        tables.setdefault(tuple(medians), []).append([name, *cells])
    return "\n\n".join(format_table(["", *titles], rows) for titles, rows in tables.items())


def _median(results: list[Measurement], title: str) -> float:
    return statistics.median(result[title] for result in results)


if __name__ == "__main__":
    commands.run(main, define_flags)
