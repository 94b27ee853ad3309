"""The benchmark's report agrees with its measurements; speed itself is not tested."""

import json
import re

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(run_process, flags, tmp_path_factory):
    """Some sections on the small data set, once: the report and the JSON."""
    path = tmp_path_factory.mktemp("benchmark") / "measured.json"
    settings = ["--sections=training,evaluation,input", "--repeats=1", "--examples=60"]
    done = run_process("dev.benchmark", *settings, f"--json={path}", *flags)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(), json.loads(path.read_text())["results"]


def test_the_report_has_the_measurements(measured):
    report, results = measured
    for section in ("training", "evaluation"):
        (ours,), (theirs,) = results[section], results[f"keras {section}"]
        row = next(line for line in report.splitlines() if line.startswith(f"| {section} |"))
        cells = [float(cell) for cell in row.split("|")[2:-1]]
        expected = [*ours.values(), ours["seconds"] / theirs["seconds"]]
        assert cells == pytest.approx(expected, abs=0.006, rel=0.006)
        assert ours["texts/s"] == pytest.approx(60 / ours["seconds"])
    (waiting,) = results["input"]
    share = re.search(r"waiting for a batch, % .*\n.*\n\| input \| [\d.]+ \| ([\d.]+) \|", report)
    assert float(share[1]) == pytest.approx(waiting["waiting for a batch, %"], abs=0.006)


def test_both_programs_read_the_same_examples(measured):
    _, results = measured
    for section in ("training", "evaluation"):
        (ours,), (theirs,) = results[section], results[f"keras {section}"]
        assert ours["texts"] == theirs["texts"] == 60
        assert ours["tokens"] == theirs["tokens"] > 60


def test_an_unknown_section_is_refused(run_process, flags):
    done = run_process("dev.benchmark", "--sections=training,speed", *flags)
    assert done.returncode == 1
    assert "--sections=speed is unknown; choose from training" in done.stderr.decode()
