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

import json
import statistics
import sys
from pathlib import Path

from absl import flags

from pipeline.errors import UserError
from scripts.cli import commands, streams
from scripts.cli.flags import FLAGS, define_setting_flags, get_settings
from scripts.dev.measurements import overhead, scaling, speed
from scripts.dev.measurements.workload import Measure, Measurement
from scripts.dev.processes import measure_in_process, peak_megabytes, set_threads

Measurements = dict[str, list[Measurement]]

_COMPARED = {"training": "fit", "evaluation": "evaluate", "prediction": "predict"}
_DEFAULT_SECTIONS = (*_COMPARED, "input", "summaries", "startup")
_SECTIONS = (*_DEFAULT_SECTIONS, "replicas", "scale")

_MEASURES: dict[str, Measure] = {
    "peak": speed.measure_peak,
    "training": speed.measure_training,
    "keras training": speed.measure_keras("fit", "train"),
    "evaluation": speed.measure_scoring("evaluate"),
    "keras evaluation": speed.measure_keras("evaluate", "test"),
    "prediction": speed.measure_scoring("predict"),
    "keras prediction": speed.measure_keras("predict", "test"),
    "input": overhead.measure_input,
    "summaries": overhead.measure_summaries,
    "startup": overhead.measure_startup,
    **{f"replicas {count}": scaling.measure_replicas(count) for count in scaling.REPLICAS},
    **{f"scale {times}": scaling.measure_scale(times) for times in scaling.SCALES},
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
        if FLAGS.measure != "startup":  # which times the imports first
            set_threads(config)
        print(json.dumps(_MEASURES[FLAGS.measure](config) | {"megabytes": peak_megabytes()}))
        return
    unknown = [name for name in FLAGS.sections if name not in _SECTIONS]
    if unknown:
        raise UserError(
            f"--sections={','.join(unknown)} is unknown; choose from {','.join(_SECTIONS)}"
        )
    measurements = _measure_all(FLAGS.sections, FLAGS.repeats)
    print(_format_report(measurements))
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(measurements, indent=2) + "\n", encoding="utf-8")


def _measure_all(sections: list[str], repeats: int) -> Measurements:
    names = [name for section in _SECTIONS if section in sections for name in _names_in(section)]
    measurements: Measurements = {name: [] for name in ("peak", *names)}
    for repeat in range(1, repeats + 1):
        for name, results in measurements.items():
            results.append(_measure_in_process(name))
            streams.print_message(f"{repeat}/{repeats} {name}: {results[-1]}")
    return measurements


def _names_in(section: str) -> list[str]:
    if section == "scale":
        return [f"scale {times}" for times in scaling.SCALES]
    if section == "replicas":
        return [f"replicas {count}" for count in scaling.available_replicas()]
    return [section, f"keras {section}"] if section in _COMPARED else [section]


def _measure_in_process(name: str) -> Measurement:
    uses_all_threads = name == "peak" or name.startswith("keras")  # TensorFlow's default, 0
    environment = {"TF_NUM_INTRAOP_THREADS": "0"} if uses_all_threads else {}
    return measure_in_process([*sys.argv[1:], f"--measure={name}"], environment)


def _format_report(measurements: Measurements) -> str:
    peak = _median(measurements, "peak", "gigaflops_per_second")
    repeats = len(measurements["peak"])
    lines = [f"Medians of {repeats}; matrix products reach {peak:.0f} GFLOP/s on this machine."]
    lines += _format_comparison(measurements, peak)
    if "input" in measurements:
        share = _share(measurements, "input", "waited")
        lines += ["", f"Waiting for a batch: {share:.2%} of training."]
    if "summaries" in measurements:
        share = _share(measurements, "summaries", "summaries")
        lines += ["", f"Events for TensorBoard: {share:.2%} of an epoch and its validation."]
    if "startup" in measurements:
        lines += _format_startup(measurements)
    if "replicas 1" in measurements:
        lines += _format_replicas(measurements)
    if f"scale {scaling.SCALES[0]}" in measurements:
        lines += _format_scale(measurements)
    return "\n".join(lines)


def _median(measurements: Measurements, name: str, value: str) -> float:
    return statistics.median(result[value] for result in measurements[name])


def _share(measurements: Measurements, name: str, value: str) -> float:
    return _median(measurements, name, value) / _median(measurements, name, "seconds")


def _format_comparison(measurements: Measurements, peak: float) -> list[str]:
    """Formats the table that compares this project with Keras."""
    compared = [section for section in _COMPARED if section in measurements]
    if not compared:
        return []
    columns = "seconds | texts/s | tokens/s | relative to Keras | share of peak | memory, MB"
    lines = ["", f"| | {columns} |", "|---|---|---|---|---|---|---|"]
    for section in compared:
        keras_name = f"keras {section}"
        keras_seconds = _median(measurements, keras_name, "seconds")
        titles = {section: section, keras_name: f"Keras `{_COMPARED[section]}`, padded"}
        for name, title in titles.items():
            seconds, texts, tokens, gigaflops, megabytes = (
                _median(measurements, name, value)
                for value in ("seconds", "examples", "tokens", "gigaflops", "megabytes")
            )
            lines.append(
                f"| {title} | {seconds:.1f} | {texts / seconds:.0f} | {tokens / seconds:.0f} "
                f"| {seconds / keras_seconds:.2f} | {gigaflops / seconds / peak:.0%} "
                f"| {megabytes:.0f} |"
            )
    return lines


def _format_startup(measurements: Measurements) -> list[str]:
    laps = [name for name in measurements["startup"][0] if name != "megabytes"]
    lines = ["", "| up to the end of the first step | seconds |", "|---|---|"]
    return lines + [f"| {lap} | {_median(measurements, 'startup', lap):.1f} |" for lap in laps]


def _format_replicas(measurements: Measurements) -> list[str]:
    lines = ["", "| replicas | seconds | texts/s | relative speed |", "|---|---|---|---|"]
    single = _median(measurements, "replicas 1", "seconds")
    for name in measurements:
        if name.startswith("replicas "):
            seconds, texts = (_median(measurements, name, v) for v in ("seconds", "examples"))
            lines.append(
                f"| {name.split()[1]} | {seconds:.1f} | {texts / seconds:.0f} "
                f"| {single / seconds:.2f} |"
            )
    return lines


def _format_scale(measurements: Measurements) -> list[str]:
    lines = ["", "| texts | from text to token ids, ms each | 100 steps, s | memory, MB |"]
    lines.append("|---|---|---|---|")
    for name in measurements:
        if name.startswith("scale "):
            texts, reading, steps, megabytes = (
                _median(measurements, name, value)
                for value in ("examples", "reading", "100 steps", "megabytes")
            )
            lines.append(
                f"| {texts:.0f} | {1000 * reading / texts:.2f} | {steps:.1f} | {megabytes:.0f} |"
            )
    return lines


if __name__ == "__main__":
    commands.run(main, define_flags)
