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
    return done.stdout.decode(), json.loads(path.read_text())


def test_the_report_has_the_measurements(measured):
    report, results = measured
    for section in ("training", "evaluation"):
        (ours,), (theirs,) = results[section], results[f"keras {section}"]
        row = next(line for line in report.splitlines() if line.startswith(f"| {section} |"))
        seconds, per_second, tokens, ratio = (float(cell) for cell in row.split("|")[2:6])
        assert seconds == pytest.approx(ours["seconds"], abs=0.06)
        assert per_second == pytest.approx(60 / ours["seconds"], abs=1)
        assert tokens == pytest.approx(ours["tokens"] / ours["seconds"], abs=1)
        assert ratio == pytest.approx(ours["seconds"] / theirs["seconds"], abs=0.006)
    (waiting,) = results["input"]
    share = re.search(r"waiting for a batch, % .*\n.*\n\| input \| [\d.]+ \| ([\d.]+) \|", report)
    assert float(share[1]) == pytest.approx(100 * waiting["waited"] / waiting["seconds"], abs=0.006)


def test_both_programs_read_the_same_examples(measured):
    _, results = measured
    for section in ("training", "evaluation"):
        (ours,), (theirs,) = results[section], results[f"keras {section}"]
        assert ours["examples"] == theirs["examples"] == 60
        assert ours["tokens"] == theirs["tokens"] > 60
        assert ours["gigaflops"] == pytest.approx(theirs["gigaflops"])


def test_an_unknown_section_is_refused(run_process, flags):
    done = run_process("dev.benchmark", "--sections=training,speed", *flags)
    assert done.returncode == 1
    assert "--sections=speed is unknown; choose from training" in done.stderr.decode()
