"""The quickstart recipe classifies the examples of README."""

import json

import pytest

ANSWERS = {
    "A quiet, moving film.": "pos",
    "Two hours I will never get back.": "neg",
    "This was not a good film at all.": "neg",
}


@pytest.mark.slow
def test_the_quickstart_learns_the_examples_of_the_readme(run_process, cache_dir, tmp_path):
    model_dir, data_dir = tmp_path / "run", tmp_path / "data"
    folders = [f"--model_dir={model_dir}", f"--data_dir={data_dir}", f"--cache_dir={cache_dir}"]
    recipe = "--flagfile=scripts/recipes/quickstart.flags"
    done = run_process("train", recipe, "--format=json", *folders)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["accuracy"] > 0.91
    done = run_process("predict", f"--model_dir={model_dir}", *ANSWERS)
    assert done.returncode == 0, done.stderr.decode()
    rows = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert {text: label for label, _, text in rows} == ANSWERS
    for label, probability, text in rows:
        # That of the second label, pos.
        of_answer = float(probability) if label == "pos" else 1 - float(probability)
        assert of_answer > 0.55, text
