"""The training loop: epochs of training steps, each followed by a validation."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from pipeline.batches import batches_per_epoch, training_batches
from pipeline.errors import RunError
from pipeline.examples import Examples
from trainer.artifacts.checkpoints import Checkpoints
from trainer.artifacts.state import TrainState, sample
from trainer.config import TrainConfig
from trainer.evaluation.metrics import mean
from trainer.monitoring.monitor import Monitor
from trainer.monitoring.progress import log_while_running
from trainer.monitoring.weight_names import short_names
from trainer.objectives.classification import Classification, Validation
from trainer.runtime.files import is_out_of_memory
from trainer.runtime.replicas import Replicas
from trainer.runtime.signals import Interrupted, check_stop
from trainer.step import TrainStep

_log = logging.getLogger(__name__)

_SECONDS_PER_CALL = 0.5  # of train_steps, between two checks for signals
_CLUSTER_STEPS = 10  # per call, the same in all workers, although their speeds differ


def last_step(config: TrainConfig, training: Examples) -> int:
    """Returns the number of the last step of a run, that is, its total number of steps."""
    steps = config.epochs * batches_per_epoch(training, config.batch_size)
    return min(steps, config.max_steps) if config.max_steps else steps


class TrainingLoop:
    """Trains a model, validates it after each epoch, reports metrics and saves checkpoints.

    Args:
        config: The settings.
        state: The state of the run, already restored if the run is resumed.
        objective: Computes the losses, and validates.
        training: The training examples.
        validation: The validation split, which decides which epoch is best.
        replicas: The replicas that the model was built for.
        checkpoints: Saves the state.
        vocabulary: The tokens, for TensorBoard.
        label_names: The names of labels 0 and 1, for TensorBoard.

    Attributes:
        config: The settings.
        state: The state of the run, which changes during training.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: TrainState,
        *,
        objective: Classification,
        training: Examples,
        validation: Examples,
        replicas: Replicas,
        checkpoints: Checkpoints,
        vocabulary: Sequence[str],
        label_names: tuple[str, ...],
    ) -> None:
        self.config = config
        self.state = state
        self._objective = objective
        self._training = training
        self._validation = validation
        self._replicas = replicas
        self._checkpoints = checkpoints
        self._vocabulary, self._label_names = vocabulary, label_names
        self._step = TrainStep(config, state, objective, replicas)
        self._steps_per_epoch = batches_per_epoch(training, config.batch_size)
        self._is_compiled = False
        self._last_step = last_step(config, training)
        self._epochs = math.ceil(self._last_step / self._steps_per_epoch)

    def is_finished(self) -> bool:
        """Returns whether all epochs are recorded, or early stopping has ended the run."""
        patience = self.config.early_stopping_patience
        is_stale = 0 < patience <= int(self.state.stale_epochs)
        return int(self.state.epoch) >= self._epochs or is_stale

    def fit(self, model_dir: Path) -> None:
        """Trains from the current state to the end of the last epoch.

        Args:
            model_dir: The folder for events and history.csv.

        Raises:
            Interrupted: A signal arrived; the state is saved.
            RunError: The loss is no longer finite, memory or disk space ran out, or another worker
                ended.
        """
        self._monitor = self._open_monitor(model_dir)
        self._saved_at = time.monotonic()
        self._replicas.offset_replica_seeds(self.state.model)
        try:
            with self._translate_errors():
                if not int(self.state.step):
                    self._begin()
                while not self.is_finished():
                    self._train_epoch()
                    self._validate_epoch()
                self._log_end()
        except Interrupted:
            self._save()
            raise
        finally:
            self._monitor.close()

    def _open_monitor(self, model_dir: Path) -> Monitor:
        epoch, step = int(self.state.epoch), int(self.state.step)
        # If the last step of an epoch is done but the epoch is not recorded yet, the events of this
        # step are still missing.
        epoch_end = min((epoch + 1) * self._steps_per_epoch, self._last_step)
        is_written = step < epoch_end or epoch >= self._epochs
        return Monitor(
            self.config,
            model_dir,
            vocabulary=self._vocabulary,
            label_names=self._label_names,
            epoch=epoch,
            step=step,
            first_step=step + is_written,
            last_step=self._last_step,
        )

    def _begin(self) -> None:
        """Adapts the model to the training examples, and saves the first checkpoint."""
        self._objective.adapt(self._training)
        self._monitor.report_graph(self._objective.graph())
        self._save()  # from now on, a missing checkpoint is an error

    def _log_end(self) -> None:
        """Logs why training ended, and which epoch is best."""
        epoch, best = int(self.state.epoch), int(self.state.best_epoch)
        if epoch < self._epochs:
            patience = self.config.early_stopping_patience
            last = "last epoch" if patience == 1 else f"last {patience} epochs"
            reason = f"stopped: no better validation loss in the {last}"
        else:
            reason = "finished"
        _log.info("%s; best epoch %d of %d", reason, best, epoch)

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translates TensorFlow's out-of-memory errors into a RunError with advice."""
        try:
            with self._replicas.translate_lost_worker():
                yield
        except (MemoryError, tf.errors.ResourceExhaustedError, tf.errors.InternalError) as error:
            if not is_out_of_memory(error):
                raise
            raise RunError(
                f"not enough memory for --batch_size={self.config.batch_size} and "
                f"--sequence_length={self.config.sequence_length}; try smaller values in a new "
                "--model_dir"
            ) from error

    def _train_epoch(self) -> None:
        epoch, step = int(self.state.epoch), int(self.state.step)
        end = min((epoch + 1) * self._steps_per_epoch, self._last_step)
        batches = training_batches(
            self._training,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            epoch=epoch,
            first_batch=step - epoch * self._steps_per_epoch,
            shards=self._replicas.count,
            local=self._replicas.local,
        )
        self._start_interval()
        self._monitor.begin_epoch(f"{epoch + 1}/{self._epochs}")
        iterator, pace = iter(batches), _Pace(is_cluster=self._replicas.is_cluster)
        while step < end:
            count = self._monitor.begin_steps(step, self._count_steps(step, end, pace.steps()))
            with pace.measure(count), self._log_compiling():
                self._step.train_steps(iterator, tf.constant(count, tf.int64))
            step += count
            self._step.check_skipped(step)
            self._monitor.advance(count)
            if step < end:  # the last step is reported and saved together with the epoch
                if step % self.config.summary_every == 0:
                    self._report_interval(step, time.monotonic())
                if step % self.config.checkpoint_every == 0:
                    self._save()
                check_stop()

    def _count_steps(self, step: int, end: int, limit: int) -> int:
        """Returns the number of steps until the next report or checkpoint, at most `limit`."""
        intervals = (self.config.summary_every, self.config.checkpoint_every)
        return min(end - step, limit, *(interval - step % interval for interval in intervals))

    def _log_compiling(self) -> contextlib.AbstractContextManager[None]:
        """Logs during the first call of `train_steps`, which compiles the step."""
        if self._is_compiled:
            return contextlib.nullcontext()
        self._is_compiled = True
        return log_while_running("compiling the training step")

    def _start_interval(self) -> None:
        """Starts the interval of steps that the next report covers."""
        for counter in (self._step.examples, self._step.tokens):
            counter.reset_state()
        self._interval_start = time.monotonic()

    def _report_interval(self, step: int, end_time: float) -> None:
        """Reports the metrics of the steps since the last report.

        Args:
            step: The last of these steps.
            end_time: The time.monotonic() at the end of this step.
        """
        state, seconds = self.state, end_time - self._interval_start
        values = state.interval_metrics.result()
        values["gradient_norm"] = mean(state.gradient_norm)
        values["learning_rate"] = float(tf.convert_to_tensor(state.optimizer.learning_rate))
        for name, counter in (("examples", self._step.examples), ("tokens", self._step.tokens)):
            values[f"{name}_per_second"] = float(counter.result()) / seconds
        self._monitor.report_steps(values, step=step)
        if lost := int(self._step.lost_steps):
            _log.warning("skipped %d steps before step %d: gradient not finite", lost, step)
        self._step.lost_steps.assign(0)
        state.interval_metrics.reset()
        state.gradient_norm.reset_state()
        self._start_interval()

    def _validate_epoch(self) -> None:
        """Validates the model after an epoch, reports the epoch, and saves the state."""
        end_time, step = time.monotonic(), int(self.state.step)
        validation = self._objective.validate(self._validation)
        self._monitor.report_predictions(
            self._validation, validation.logits, validation.errors, step=step
        )
        is_best = self._keep_best(validation)
        self._warn_of_collapse(validation.metrics["accuracy"])
        self._report_interval(step, end_time)
        self._end_epoch(validation.metrics, step=step, is_best=is_best)

    def _keep_best(self, validation: Validation) -> bool:
        """Saves the model if it is the best so far, and returns whether it is."""
        state, loss = self.state, validation.metrics["loss"]
        if not math.isfinite(loss):
            raise RunError(
                f"the validation loss is {loss} at step {int(state.step)}; try "
                f"--learning_rate={self.config.learning_rate / 10:g} in a new --model_dir"
            )
        is_best = loss < float(state.best_loss)
        if is_best:
            state.best_loss.assign(loss)
            state.best_epoch.assign(state.epoch + 1)
            self._checkpoints.save_best()
            self._monitor.report_best(
                validation.metrics, self._objective.embeddings(), step=int(state.step)
            )
        return is_best

    def _end_epoch(self, validation: dict[str, float], *, step: int, is_best: bool) -> None:
        state, train = self.state, self.state.epoch_metrics.result()
        epoch = int(state.epoch.assign_add(1))
        row = self._monitor.prepare_epoch(train, validation, epoch=epoch, step=step)
        self._report_histograms(step)
        state.stale_epochs.assign(0 if is_best else int(state.stale_epochs) + 1)
        state.epoch_metrics.reset()
        self._save()
        self._monitor.finish_epoch(row, epochs=self._epochs, is_best=is_best)

    def _report_histograms(self, step: int) -> None:
        """Reports the distributions of the trained weights and of their last gradients."""
        weights = self.state.model.trainable_variables
        names = short_names([weight.path for weight in weights])
        for group, samples in (
            ("weights", [sample(weight.value) for weight in weights]),
            ("weight_gradients", self.state.gradient_samples),
        ):
            self._monitor.report_histograms(group, zip(names, samples, strict=True), step=step)

    def _warn_of_collapse(self, accuracy: float) -> None:
        """Warns if accuracy has fallen to that of guessing, within two standard errors."""
        share = float(self._validation.labels.mean())
        guessing, error = max(share, 1 - share), 0.5 / math.sqrt(len(self._validation))
        best = max(self._monitor.accuracies(), default=0.0)
        if accuracy <= guessing + 2 * error < best - 2 * error:
            _log.warning(
                "training has collapsed: validation accuracy fell from %.3f to %.3f, and guessing "
                "reaches %.3f. The model of epoch %d is still the best one, and will be used. A "
                "smaller --learning_rate or --clip_norm makes training more stable",
                best,
                accuracy,
                guessing,
                int(self.state.best_epoch),
            )

    def _save(self) -> None:
        """Saves the state, after all events of its steps are on disk."""
        now = time.monotonic()
        self.state.seconds.assign_add(now - self._saved_at)
        self._saved_at = now
        self._monitor.flush()
        self._checkpoints.save()


class _Pace:
    """Chooses the number of steps per call of `train_steps`.

    Signals are checked only between calls, so calls must not be long. Each call costs some time in
    Python, so calls must not be short.

    Args:
        is_cluster: Whether there are several workers. All workers must take the same number of
            steps per call, so this number must not depend on measured times.
    """

    def __init__(self, *, is_cluster: bool) -> None:
        self._is_cluster = is_cluster
        self._seconds_per_step = _SECONDS_PER_CALL

    def steps(self) -> int:
        """Returns the number of steps of the next call, at least 1."""
        if self._is_cluster:
            return _CLUSTER_STEPS
        return max(1, int(_SECONDS_PER_CALL / self._seconds_per_step))

    @contextlib.contextmanager
    def measure(self, steps: int) -> Iterator[None]:
        """Measures the time of a call with this number of steps."""
        start = time.monotonic()
        yield
        self._seconds_per_step = max(time.monotonic() - start, 1e-6) / steps
