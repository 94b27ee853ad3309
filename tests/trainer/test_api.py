"""The public Python API of the package trainer."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

import pipeline
import trainer
from tests.helpers import assert_same_run
from tests.small import ROOT
from trainer.artifacts.run_record import RunRecord

TEXTS = ["A good film.", "A bad film."]


def test_importing_trainer_does_not_import_tensorflow():
    program = "import sys, trainer; print('tensorflow' in sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT)
    assert output.strip() == b"False"


def test_the_errors_are_public():
    assert {trainer.UserError, trainer.RunError, trainer.Interrupted} <= {
        getattr(trainer, name) for name in trainer.__all__
    }


def test_train_returns_the_best_model_of_the_run(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    config = RunRecord.read(folder).config
    run = trainer.train(config, str(folder))  # finished already
    results = json.loads((folder / "results.json").read_text())
    assert (run.best_epoch, run.best_value) == (
        results["best_epoch"],
        results["validation_loss"],
    )
    np.testing.assert_array_equal(run.predict(TEXTS), trainer.load(str(folder)).predict(TEXTS))


@pytest.mark.parametrize("folder", ["", "gs://bucket/run"])
def test_a_folder_without_a_name_or_on_another_machine_is_refused(
    trained, small_config, tmp_path, monkeypatch, folder
):
    """`train` would write to the current folder, or to a new one named `gs:`."""
    monkeypatch.chdir(tmp_path)
    for function, arguments in (
        (trainer.train, (small_config, folder)),
        (trainer.load, (folder,)),
        (trainer.export, (trained, folder)),
    ):
        with pytest.raises(trainer.UserError, match="is not a folder of this machine"):
            function(*arguments)
    assert not list(tmp_path.iterdir())


def test_settings_of_another_type_are_refused(tmp_path):
    with pytest.raises(TypeError, match="takes a TrainConfig and a folder, not dict"):
        trainer.train({"epochs": 1}, tmp_path)
    with pytest.raises(TypeError, match=r"data is pipeline.from_arrays.*not tuple"):
        trainer.train(trainer.TrainConfig(), tmp_path, data=(["a"], ["b"]))


@pytest.mark.slow
def test_keras_uses_tensorflow_whatever_the_user_has_chosen():
    program = "import trainer.building, keras; print(keras.backend.backend())"
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", program]
    assert subprocess.check_output(command, cwd=ROOT, env=environment).strip() == b"tensorflow"


@pytest.mark.slow
def test_export_writes_a_saved_model(trained, tmp_path):
    trainer.export(str(trained), str(tmp_path / "export"))
    serve = tf.saved_model.load(str(tmp_path / "export")).signatures["serving_default"]
    probabilities = serve(tf.constant(TEXTS))["probability"].numpy()
    np.testing.assert_allclose(probabilities, trainer.load(trained).predict(TEXTS)[:, 1], atol=1e-5)


# Data in memory

ROWS = [
    (f"a {word} film number {n}", label)
    for n in range(60)
    for word, label in (("dull", 1), ("fine", 2), ("great", 3))
]


@pytest.fixture
def config(cache_dir):
    small = {"encoder": "pooled_lstm", "units": 4, "embedding_dim": 4, "learning_rate": 0.05}
    return trainer.TrainConfig(**small, ngrams=1, epochs=2, batch_size=16, cache_dir=str(cache_dir))


@pytest.fixture
def data():
    texts, labels = zip(*ROWS, strict=True)
    return pipeline.from_arrays(texts, labels)


@pytest.mark.usefixtures("small_ngram_tables")
def test_data_in_memory_is_trained_on_in_any_thread_and_resumed(config, data, tmp_path):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    runs = []
    thread = threading.Thread(
        target=lambda: runs.append(trainer.train(config, tmp_path / "run", data=data))
    )
    thread.start()
    thread.join()
    (run,) = runs
    assert run.label_names == ("1", "2", "3")
    assert run.classify(["a great film"]) == ["3"]
    longer = dataclasses.replace(config, epochs=4)
    assert trainer.train(longer, tmp_path / "run", data=data).config.epochs == 4
    whole = trainer.train(longer, tmp_path / "whole", data=data)  # a second run of the process
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert whole.config.dataset == "in memory"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    with pytest.raises(trainer.UserError, match="trained on data in memory; in Python, train with"):
        trainer.train(longer, tmp_path / "run")
    other = pipeline.from_arrays(["a", "b", "c", "d"] * 9, [1, 2, 2, 1] * 9)
    with pytest.raises(trainer.UserError, match=r"a run on other data"):
        trainer.train(longer, tmp_path / "run", data=other)
    with pytest.raises(trainer.UserError, match=r"in memory, so leave out dataset=a\.csv"):
        trainer.train(dataclasses.replace(config, dataset="a.csv"), tmp_path / "new", data=data)
    with pytest.raises(trainer.UserError, match="in memory, so leave out split_column=part"):
        trainer.train(dataclasses.replace(config, split_column="part"), tmp_path / "n", data=data)


@pytest.mark.usefixtures("small_ngram_tables")
def test_evaluate_matches_labels_by_name(config, data, tmp_path):
    mapped = dataclasses.replace(config, label_map="1:bad")
    run = trainer.train(mapped, tmp_path / "run", data=data)
    texts, labels = ["a dull film", "a great film", "a fine film"], [1.0, "3", np.int64(2)]
    found = run.evaluate(texts, labels)
    assert found["accuracy"] == 1
    assert found["examples"] == 3
    assert run.evaluate(texts, ["bad", 3, 2]) == found
    few = run.evaluate(texts[:1], [1])  # without two of the labels
    assert few["auc"] is None
    assert few["classes"]["3"]["examples"] == 0
    for unknown in ("4", None):
        with pytest.raises(trainer.UserError, match="not a label of the run; choose one of '2'"):
            run.evaluate(texts, [1, 2, unknown])
    with pytest.raises(trainer.UserError, match="3 texts and 2 labels; give one each"):
        run.evaluate(texts, [1, 2])
    with pytest.raises(trainer.UserError, match="a list is not a label"):
        run.evaluate(texts[:1], [[1]])


def test_errors_name_settings_and_commands_name_flags(call, capsys, tmp_path):
    with pytest.raises(trainer.UserError) as raised:
        trainer.TrainConfig(encoder="none")
    assert str(raised.value) == "encoder=none leaves no scorer to train; add ngrams=3"
    assert call("train", f"--model_dir={tmp_path / 'run'}", "--encoder=none") == 1
    expected = "error: --encoder=none leaves no scorer to train; add --ngrams=3\n"
    assert capsys.readouterr().err == expected
    with pytest.raises(trainer.UserError, match=r"python -m scripts\.train --model_dir="):
        trainer.load(tmp_path)
