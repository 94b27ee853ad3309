"""The public Python API of the package trainer."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import trainer
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
