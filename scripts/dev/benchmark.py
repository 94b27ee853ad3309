"""Measures speed: python -m scripts.dev.benchmark [--sections=...] [flags of train].

The sections training, evaluation and prediction compare this project with `fit`, `evaluate` and
`predict` of the tutorial's Keras model. Both read the same texts; Keras reads them padded to
--sequence_length. GFLOP/s count only the LSTMs, and no padding. Other sections:

  peak       the product of two large matrices, for comparison with these GFLOP/s
  input      the fraction of training time spent waiting for batches
  summaries  the fraction of an epoch spent writing TensorBoard events
  startup    the time until the end of the first step

Each measurement runs in its own process with its default number of threads, and the measurements
alternate (A B A B). Progress goes to stderr, the report (Markdown tables) to stdout.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from absl import flags

from scripts.cli import commands, streams
from scripts.cli.flags import FLAGS, define_setting_flags, get_settings
from scripts.dev.measure.measuring import Measurement, check_names, measure_in_process
from scripts.dev.measure.records import Recorder
from scripts.dev.measure.tables import Measurements, format_speed, section_of
from trainer.config import TrainConfig

_SECTIONS = ("training", "evaluation", "prediction", "peak", "input", "summaries", "startup")


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
    print(format_speed(_measure_all(FLAGS.sections, FLAGS.repeats)))


def _measure(name: str, config: TrainConfig) -> Measurement:
    """Measures in this process; adds its peak memory in MiB."""
    start = time.monotonic()
    with streams.quiet_stderr():
        from scripts.dev.measure.measurements import MEASURES, devices
    imports = {"imports, s": time.monotonic() - start} if name == "startup" else {}
    devices.set_threads(config.batch_size)
    values = imports | MEASURES[name](config)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return values | {"memory, MB": peak // (1024 * 1024 if sys.platform == "darwin" else 1024)}


def _measure_all(sections: list[str], repeats: int) -> Measurements:
    recorder = Recorder("scripts.dev.benchmark")
    with streams.quiet_stderr():
        from scripts.dev.measure.measurements import MEASURES
    measurements: Measurements = {name: [] for name in MEASURES if section_of(name) in sections}
    for repeat in range(1, repeats + 1):
        for name, results in measurements.items():
            results.append(_measure_in_process(name))
            streams.print_message(f"{repeat}/{repeats} {name}: {results[-1]}")
            recorder.write(measurements)
    return measurements


def _measure_in_process(name: str) -> Measurement:
    # Only measurements of this project set the number of threads. 0 is TensorFlow's default.
    is_other = name == "peak" or name.startswith("keras")
    environment = {"TF_NUM_INTRAOP_THREADS": "0"} if is_other else {}
    return measure_in_process(
        "scripts.dev.benchmark", [*sys.argv[1:], f"--measure={name}"], environment
    )


if __name__ == "__main__":
    commands.run(main, define_flags)
