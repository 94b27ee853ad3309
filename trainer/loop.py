"""The training loop: epochs of training steps, each followed by a validation."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.batches import batch_spec, batches_per_epoch, training_batches
from pipeline.errors import RunError
from pipeline.examples import Examples
from trainer.artifacts.checkpoints import Checkpoints
from trainer.artifacts.pretrained import PretrainedEncoder
from trainer.artifacts.run_record import RunRecord
from trainer.artifacts.state import TrainState, sample
from trainer.artifacts.training_set import TrainingSet
from trainer.building import build_model, build_optimizer, total_steps
from trainer.evaluation.collapse import warn_of_collapse
from trainer.evaluation.metrics import mean
from trainer.monitoring.history import History
from trainer.monitoring.profiler import Profile
from trainer.monitoring.progress import Progress, log_while_running
from trainer.monitoring.summaries import Summaries
from trainer.monitoring.weight_names import short_names
from trainer.objectives.classification import Classification
from trainer.runtime import devices
from trainer.runtime.replicas import Replicas
from trainer.runtime.signals import Interrupted, check_stop
from trainer.step import TrainStep, translate_memory_errors

_log = logging.getLogger(__name__)

# Signals are checked only between calls of TrainStep.run, so calls must not be long. Each call
# costs some time in Python, so calls must not be short.
_SECONDS_PER_CALL = 0.5
_CLUSTER_STEPS = 10  # per call, the same in all workers, although their speeds differ
_PROGRESS_VALUES = ("loss", "accuracy", "examples_per_second")  # beside the progress bar


class TrainingLoop:
    """Trains a model, validates it after each epoch, reports metrics and saves checkpoints.

    Builds the model, and restores its state from the newest checkpoint, if there is one.

    Args:
        record: The record of the run.
        model_dir: The folder of the run.
        token_names: The token of each id.
        training: The examples to train on.
        validation: The validation split, which decides which epoch is best. N-grams alone can be
            validated on the train split, by cross-fitting.
        replicas: The replicas that train.
        class_weights: <float32>[K], which multiply the losses of the examples; None for 1.
        pretrained: The pretrained encoder, if there is one.

    Attributes:
        config: The settings.
        state: The state of the run, which changes during training.
        train_step: Takes the training steps.

    Raises:
        RunError: The checkpoints or the best model are missing or cannot be read.
    """

    def __init__(
        self,
        record: RunRecord,
        model_dir: Path,
        *,
        token_names: list[str],
        training: TrainingSet,
        validation: Examples,
        replicas: Replicas,
        class_weights: np.ndarray | None = None,
        pretrained: PretrainedEncoder | None = None,
    ) -> None:
        self.config = config = record.config
        self._model_dir, self._replicas = model_dir, replicas
        self._training, self._validation = training, validation
        self._token_names, self._label_names = token_names, record.label_names
        examples, classes = len(training.examples), len(record.label_names)
        self._steps_per_epoch = batches_per_epoch(examples, config.batch_size)
        self._total_steps = total_steps(config, examples)
        # Without steps, an epoch is only the fit of the n-grams and its validation.
        self._epochs = math.ceil(self._total_steps / self._steps_per_epoch) or 1
        self._is_compiled = False
        devices.warn_of_precision(config.precision, record.precision, model_dir)
        with replicas.strategy.scope():
            architecture = pretrained.architecture if pretrained else None
            runtime = (record.precision, record.branches, architecture)
            model = build_model(config, len(token_names), classes, *runtime)
            optimizer = build_optimizer(config, model, self._total_steps)
        self._objective = Classification(model, replicas, class_weights=class_weights)
        self.state = TrainState(
            model, optimizer, class_count=classes, fingerprint=record.fingerprint
        )
        self._checkpoints = Checkpoints(model_dir, self.state)
        self._restore(pretrained)
        self.train_step = TrainStep(
            config, self.state, self._objective, replicas, batch_spec(training.examples)
        )

    def _restore(self, pretrained: PretrainedEncoder | None) -> None:
        """Restores the newest checkpoint or assigns the pretrained weights, and logs the step."""
        state, is_resumed = self.state, self._checkpoints.restore()
        if pretrained and not is_resumed:
            pretrained.assign_weights(state.model, self.config.pretrained)
        if int(state.step) < min(int(state.epoch) * self._steps_per_epoch, self._total_steps):
            # A smaller --max_steps ended the epoch early. Repeated steps have the same results.
            self._checkpoints.restore_before(int(state.step))
        about = (devices.describe(), state.model.dtype_policy.name, state.model.count_params())
        start = "resuming at" if is_resumed else "starting at"
        start = "finished at" if self.is_finished() else start
        _log.info("%s, %s, %d parameters; %s step %d", *about, start, int(state.step))

    def is_finished(self) -> bool:
        """Returns whether all epochs are recorded, or early stopping has ended the run."""
        return int(self.state.epoch) >= self._epochs or self._is_stale()

    def _is_stale(self) -> bool:
        return 0 < self.config.early_stopping_patience <= int(self.state.stale_epochs)

    def advise_longer(self) -> str:
        """Returns the advice for training a finished run longer."""
        if not self._total_steps:
            return "it has no steps, so it cannot be trained longer"
        needed = ["--early_stopping_patience"] if self._is_stale() else []
        if int(self.state.epoch) >= self._epochs:
            if self.config.has_schedule:
                return "to train longer, name another --model_dir"
            unlimited = dataclasses.replace(self.config, max_steps=0)
            by_epochs = total_steps(unlimited, len(self._training.examples))
            limits = (("--max_steps", self.config.max_steps), ("--epochs", by_epochs))
            needed += [name for name, steps in limits if steps == self._total_steps]
        return f"to resume it, increase {' and '.join(needed)}"

    def fit(self) -> None:
        """Trains from the current state to the end of the last epoch.

        Raises:
            Interrupted: A signal arrived; the state is saved.
            RunError: The loss is not finite, memory or disk space ran out, or another worker ended.
        """
        self._open_reports()
        self._saved_at = time.monotonic()
        self._replicas.offset_replica_seeds(self.state.model)
        try:
            with self._replicas.translate_lost_worker(), translate_memory_errors(self.config):
                if not int(self.state.step):
                    self._fit_without_steps()
                    self._summaries.write_graph(self._objective.graph())
                    self._save()  # from now on, a missing checkpoint is an error
                if self._total_steps:
                    self._training.read()
                while not self.is_finished():
                    if self._total_steps:
                        self._train_epoch()
                    self._validate_epoch()
                self._log_end()
        except Interrupted:
            self._save()
            raise
        finally:
            for report in (self._progress, self._profile, self._summaries):
                report.close()

    def _fit_without_steps(self) -> None:
        """Fits the n-grams and a frozen encoder's last layer; writes offsets and soft labels."""
        labelled, unlabelled = self._training.labelled, self._training.unlabelled
        logits = self._objective.fit_ngrams(labelled)
        if logits is not None and self.config.encoders:
            self._training.write(logits, self._objective.ngram_logits(unlabelled or labelled[:0]))
        if self.config.has_frozen_encoder:
            self._training.read()
            logits = self._objective.fit_logit_layer(self._training.examples, labelled)
        if not self._total_steps and logits is not None:  # there are no other training metrics
            self.state.epoch_metrics.reset()  # a resumed run may already hold them
            self.state.epoch_metrics.update(self._objective.metrics_update(labelled, logits))

    def _open_reports(self) -> None:
        epoch, step = int(self.state.epoch), int(self.state.step)
        # The events of `step` are missing if its epoch has ended but is not recorded yet.
        epoch_end = min((epoch + 1) * self._steps_per_epoch, self._total_steps)
        is_reported = step < epoch_end or epoch >= self._epochs
        self._summaries = Summaries(
            self._model_dir,
            first_step=step + 1 if is_reported else step,
            token_names=self._token_names,
            label_names=self._label_names,
        )
        self._summaries.write_settings(self.config)
        self._profile = Profile(self._model_dir / "train", self.config.profile_range)
        self._progress = Progress(first_step=step, last_step=self._total_steps)
        self._history = History(self._model_dir, epochs=epoch)

    def _log_end(self) -> None:
        epoch, best = int(self.state.epoch), int(self.state.best_epoch)
        reason = "finished"
        if epoch < self._epochs:
            patience = self.config.early_stopping_patience
            last = "last epoch" if patience == 1 else f"last {patience} epochs"
            reason = f"stopped: no better validation {self.config.best_metric} in the {last}"
        _log.info("%s; best epoch %d of %d", reason, best, epoch)

    def _train_epoch(self) -> None:
        epoch, step = int(self.state.epoch), int(self.state.step)
        end = min((epoch + 1) * self._steps_per_epoch, self._total_steps)
        batches = training_batches(
            self._training.examples,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            epoch=epoch,
            first_batch=step - epoch * self._steps_per_epoch,
            shards=self._replicas.count,
            local=self._replicas.local,
        )
        iterator = iter(batches)
        self._start_interval()
        self._progress.begin_epoch(f"{epoch + 1}/{self._epochs}")
        seconds_per_step = _SECONDS_PER_CALL  # not measured yet: the first call takes one step
        while step < end:
            steps_per_call = max(1, int(_SECONDS_PER_CALL / seconds_per_step))
            limit = _CLUSTER_STEPS if self._replicas.is_cluster else steps_per_call
            count = self._profile.begin_steps(step, self._steps_until_report(step, end, limit))
            start = time.monotonic()
            with self._log_compiling():
                self.train_step.run(iterator, tf.constant(count, tf.int64))
            seconds_per_step = max(time.monotonic() - start, 1e-6) / count
            step += count
            self.train_step.check_skipped(step)
            self._progress.advance(count)
            if step < end:  # the last step is reported and saved together with the epoch
                if step % self.config.summary_every == 0:
                    self._report_interval(step, time.monotonic())
                if step % self.config.checkpoint_every == 0:
                    self._save()
                check_stop()

    def _steps_until_report(self, step: int, end: int, limit: int) -> int:
        """Returns the number of steps until the next report or checkpoint, at most `limit`."""
        intervals = (self.config.summary_every, self.config.checkpoint_every)
        return min(end - step, limit, *(interval - step % interval for interval in intervals))

    def _log_compiling(self) -> contextlib.AbstractContextManager[None]:
        is_compiled, self._is_compiled = self._is_compiled, True
        message = "compiling the training step"
        return contextlib.nullcontext() if is_compiled else log_while_running(message)

    def _start_interval(self) -> None:
        self.train_step.examples.reset_state()
        self.train_step.tokens.reset_state()
        self._interval_start = time.monotonic()

    def _report_interval(self, step: int, end_time: float) -> None:
        """Reports the metrics since the last report up to `step`, which ended at `end_time`."""
        state, train_step, seconds = self.state, self.train_step, end_time - self._interval_start
        values = state.interval_metrics.result()
        values["gradient_norm"] = mean(state.gradient_norm)
        values["learning_rate"] = float(tf.convert_to_tensor(state.optimizer.learning_rate))
        for name, counter in (("examples", train_step.examples), ("tokens", train_step.tokens)):
            values[f"{name}_per_second"] = float(counter.result()) / seconds
        self._summaries.write("train", "step", values, step=step)
        self._progress.show({name: values[name] for name in _PROGRESS_VALUES})
        if skipped := int(train_step.skipped_since_report):
            _log.warning("skipped %d steps up to step %d: gradient not finite", skipped, step)
        train_step.skipped_since_report.assign(0)
        state.interval_metrics.reset()
        state.gradient_norm.reset_state()
        self._start_interval()

    def _validate_epoch(self) -> None:
        """Validates the model after an epoch, reports the epoch, and saves the state."""
        end_time, step = time.monotonic(), int(self.state.step)
        metrics, logits, errors = self._objective.validate(self._validation)
        self._summaries.write_predictions(self._validation, logits, errors, step=step)
        is_best = self._keep_best(metrics)
        warn_of_collapse(
            metrics["accuracy"],
            before=self._history.accuracies(),
            labels=self._validation.labels,
            best_epoch=int(self.state.best_epoch),
        )
        if self._total_steps:
            self._report_interval(step, end_time)
        self._end_epoch(metrics, step=step, is_best=is_best)

    def _keep_best(self, metrics: dict[str, float]) -> bool:
        """Saves the model if it is the best so far, and returns whether it is."""
        state, loss = self.state, metrics["loss"]
        if not math.isfinite(loss):
            raise RunError(
                f"the validation loss is {loss} at step {int(state.step)}; try "
                f"--learning_rate={self.config.learning_rate / 10:g} in a new --model_dir"
            )
        name = self.config.best_metric
        value = loss if name == "loss" else -metrics[name]
        if is_best := value < float(state.best_loss):
            state.best_loss.assign(value)
            state.best_epoch.assign(state.epoch + 1)
            self._checkpoints.save_best()
            self._summaries.write("validation", "validation_best", metrics, step=int(state.step))
            self._summaries.write_embeddings(self._objective.embeddings())
        return is_best

    def _end_epoch(self, validation: dict[str, float], *, step: int, is_best: bool) -> None:
        """Reports the metrics of an epoch and saves the state.

        The row of history.csv is stored beside it until the state is saved, so that each row has a
        checkpoint.
        """
        state = self.state
        epoch = int(state.epoch.assign_add(1))
        row: dict[str, float] = {"epoch": epoch, "step": step}
        texts = []
        metrics = {"train": state.epoch_metrics.result(), "validation": validation}
        for split, values in metrics.items():
            self._summaries.write(split, "epoch", values, step=step)
            row |= {f"{split}_{name}": value for name, value in values.items()}
            texts.append(f"{split} " + ", ".join(f"{n} {value:.4f}" for n, value in values.items()))
        self._history.prepare(row)
        self._report_histograms(step)
        state.stale_epochs.assign(0 if is_best else int(state.stale_epochs) + 1)
        state.epoch_metrics.reset()
        self._save()
        self._history.append(row)
        texts.append("(best so far)" if is_best else "")
        _log.info("epoch %d/%d  %s", epoch, self._epochs, "  ".join(texts).rstrip())

    def _report_histograms(self, step: int) -> None:
        """Reports the distributions of the trained weights and of their last gradients."""
        weights = self.state.model.trainable_variables
        names = short_names([weight.path for weight in weights])
        samples = {"weights": [sample(weight.value) for weight in weights]}
        samples["weight_gradients"] = self.state.gradient_samples
        for group, values in samples.items():
            self._summaries.write_histograms(group, zip(names, values, strict=True), step=step)

    def _save(self) -> None:
        """Saves the state, after all events of its steps are on disk."""
        now = time.monotonic()
        self.state.seconds.assign_add(now - self._saved_at)
        self._saved_at = now
        self._summaries.flush()
        self._checkpoints.save()
