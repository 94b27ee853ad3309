"""Markdown tables of what benchmark, compare and fine_tuning measured, complete or not."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from scripts.dev.measure.measuring import Measurement

Measurements = dict[str, list[Measurement]]  # the repeats, by what was measured
Results = dict[str, list[dict[str, float]]]  # the metrics for each seed, by method

RECIPES = ("fast", "quick", "tutorial", "pretrained")
_METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "auc": "AUC",
    "loss": "loss",
    "calibration_error": "calibration error",
}


def format_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Formats a Markdown table."""
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (titles, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(titles), *lines[1:]])


def format_speed(measurements: Measurements) -> str:
    """Formats the medians of benchmark; measurements with the same columns share a table."""
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    for name, results in measurements.items():
        if not results:
            continue
        medians = {title: _median(results, title) for title in results[0]}
        if keras := measurements.get(f"keras {section_of(name)}"):
            medians["relative to Keras"] = medians["seconds"] / _median(keras, "seconds")
        cells = [f"{value:.2f}" if value < 100 else f"{value:.0f}" for value in medians.values()]
        tables.setdefault(tuple(medians), []).append([name, *cells])
    return "\n\n".join(format_table(["", *titles], rows) for titles, rows in tables.items())


def section_of(name: str) -> str:
    """Returns the section of benchmark that a measurement belongs to."""
    return name.removeprefix("keras ")


def format_comparison(all_results: dict[str, Results]) -> str:
    """Formats the results of compare for each data set, the fastest method first."""
    rows = []
    for data_set, results in all_results.items():
        for method, per_seed in sorted(results.items(), key=lambda item: summarize(item[1])[0]):
            seconds, _, deviation = summarize(per_seed)
            name = f"**`{method}.flags`**" if method in RECIPES else method
            cells = [_format_mean([r[key] for r in per_seed if key in r]) for key in _METRICS]
            cells[0] += f" ± {deviation:.4f}" if len(per_seed) > 1 else ""
            rows.append([data_set, name, f"{seconds:.1f}", *cells, len(per_seed)])
    return format_table(["", "", "seconds to train", *_METRICS.values(), "seeds"], rows)


def summarize(results: list[dict[str, float]]) -> tuple[float, float, float]:
    """Returns the median seconds, and the mean and standard deviation of the accuracy."""
    accuracies = [result["accuracy"] for result in results]
    deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    return _median(results, "seconds"), statistics.mean(accuracies), deviation


def format_fine_tuning(measurements: Measurements) -> str:
    """Formats the medians of fine_tuning: a column for each program, and their ratio."""
    found = {program: results for program, results in measurements.items() if results}
    rows = []
    for name in found["ours"][0]:
        medians = [_median(results, name) for results in found.values()]
        ratio = [f"{medians[0] / medians[1]:.2f}"] if len(medians) == 2 else []
        rows.append([name, *(f"{median:.3g}" for median in medians), *ratio])
    return format_table(["", *found, *(["ratio"] if len(found) == 2 else [])], rows)


def _median(results: Sequence[Measurement], title: str) -> float:
    return statistics.median(result[title] for result in results)


def _format_mean(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f}" if values else "-"
