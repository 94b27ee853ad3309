"""The training loop: the epochs around the training step."""

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
from trainer.monitoring.progress import announced
from trainer.monitoring.weight_names import short_names
from trainer.objectives.classification import Classification, Validation
from trainer.runtime.files import is_out_of_memory
from trainer.runtime.replicas import Replicas
from trainer.runtime.signals import Interrupted, check_stop
from trainer.step import TrainStep

_log = logging.getLogger(__name__)

_STEADY_STEPS = 10
_SECONDS_A_CALL = 0.5  # between checks of signals and the clock


def last_step(config: TrainConfig, training: Examples) -> int:
    """Returns the number of steps of a whole run."""
    steps = config.epochs * batches_per_epoch(training, config.batch_size)
    return min(steps, config.max_steps) if config.max_steps else steps


class TrainingLoop:
    """Trains the model of a state.

    Args:
        config: The run's settings.
        state: The state of the run, restored already if the run is resumed.
        objective: Computes the losses, and validates.
        training: The training split.
        validation: The split that decides which epoch is best.
        replicas: The replicas that the model was made for.
        checkpoints: Saves the state.
        words: The vocabulary, for reports.
        label_names: What labels 0 and 1 are called, for reports.

    Attributes:
        config: As given.
        state: As given; it changes during training.
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
        words: Sequence[str],
        label_names: tuple[str, ...],
    ) -> None:
        self.config = config
        self.state = state
        self._objective = objective
        self._training = training
        self._validation = validation
        self._replicas = replicas
        self._checkpoints = checkpoints
        self._words, self._label_names = words, label_names
        self._step = TrainStep(config, state, objective, replicas)
        self._steps_per_epoch = batches_per_epoch(training, config.batch_size)
        self._is_compiled = False
        self._last_step = last_step(config, training)
        self._epochs = math.ceil(self._last_step / self._steps_per_epoch)

    def is_finished(self) -> bool:
        """Returns whether the last epoch is recorded, or early stopping has ended the run."""
        patience = self.config.early_stopping_patience
        is_stale = 0 < patience <= int(self.state.stale_epochs)
        return int(self.state.epoch) >= self._epochs or is_stale

    def fit(self, model_dir: Path) -> None:
        """Trains from the current state to the end of the last epoch.

        Args:
            model_dir: The folder for events and history.

        Raises:
            Interrupted: A signal arrived; the state is saved.
            RunError: The loss is not finite any more, memory or disk do not suffice, or another
                process of the run is gone.
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
        # At the end of an epoch that is not recorded, this step's points are still to come.
        epoch_end = min((epoch + 1) * self._steps_per_epoch, self._last_step)
        is_written = step < epoch_end or epoch >= self._epochs
        return Monitor(
            self.config,
            model_dir,
            words=self._words,
            label_names=self._label_names,
            epoch=epoch,
            step=step,
            first_step=step + is_written,
            last_step=self._last_step,
        )

    def _begin(self) -> None:
        """Does what is done once, before the first step."""
        self._objective.adapt(self._training)
        self._monitor.summaries.write_graph(self._objective.graph())
        self._save()  # from now on, a folder without checkpoints has lost them

    def _log_end(self) -> None:
        """Logs why training ends, and which epoch is best."""
        epoch, best = int(self.state.epoch), int(self.state.best_epoch)
        if epoch < self._epochs:
            patience = self.config.early_stopping_patience
            last = "last epoch" if patience == 1 else f"last {patience} epochs"
            why = f"stopped: no better validation loss in the {last}"
        else:
            why = "finished"
        _log.info("%s; best epoch %d of %d", why, best, epoch)

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translates TensorFlow's errors into a RunError that says what to do."""
        try:
            with self._replicas.translate_lost_worker():
                yield
        except (MemoryError, tf.errors.ResourceExhaustedError, tf.errors.InternalError) as error:
            if not is_out_of_memory(error):
                raise
            raise RunError(
                "there is not enough memory for --batch_size="
                f"{self.config.batch_size} and --sequence_length={self.config.sequence_length}; "
                "smaller ones need less, in a new model_dir"
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
        self._start_window()
        self._monitor.progress.begin_epoch(f"{epoch + 1}/{self._epochs}")
        # The processes of a run must make calls of the same length, and have clocks of their own.
        iterator, pace = iter(batches), _Pace(is_steady=self._replicas.is_cluster)
        while step < end:
            # The last step is reported and saved with its epoch: no checkpoint lies in between.
            pauses = (self.config.summary_every, self.config.checkpoint_every)
            count = min(end - step, pace.steps(), *(every - step % every for every in pauses))
            self._monitor.profile.maybe_start_or_stop(step)
            count = self._monitor.profile.steps_left(step, count)
            with pace.measured(count), self._compiling():
                self._step.train_steps(iterator, tf.constant(count, tf.int64))
            step += count
            self._step.check_skipped(step)
            self._monitor.progress.advance(count)
            if step < end:
                if step % self.config.summary_every == 0:
                    self._end_window(step, time.monotonic())
                if step % self.config.checkpoint_every == 0:
                    self._save()
                check_stop()

    def _compiling(self) -> contextlib.AbstractContextManager[None]:
        """Announces that the first call of `train_steps` takes longer."""
        if self._is_compiled:
            return contextlib.nullcontext()
        self._is_compiled = True
        return announced("compiling the training step")

    def _start_window(self) -> None:
        for counter in (self._step.examples, self._step.tokens):
            counter.reset_state()
        self._window_from = time.monotonic()

    def _end_window(self, step: int, until: float) -> None:
        """Reports the steps since the last report, with the throughput until that time."""
        state, seconds = self.state, until - self._window_from
        values = state.window.result()
        values["gradient_norm"] = mean(state.gradient_norm)
        values["learning_rate"] = float(tf.convert_to_tensor(state.optimizer.learning_rate))
        for name, counter in (("examples", self._step.examples), ("tokens", self._step.tokens)):
            values[f"{name}_per_second"] = float(counter.result()) / seconds
        self._monitor.report_steps(values, step=step)
        if lost := int(self._step.lost_steps):
            _log.warning("skipped %d steps before step %d: no finite gradient", lost, step)
        self._step.lost_steps.assign(0)
        state.window.reset()
        state.gradient_norm.reset_state()
        self._start_window()

    def _validate_epoch(self) -> None:
        """Validates an epoch, reports it, and saves the state."""
        trained_until, step = time.monotonic(), int(self.state.step)
        validation = self._objective.validate(self._validation)
        self._monitor.report_decisions(
            self._validation, validation.logits, validation.mistakes, step=step
        )
        is_best = self._keep_best(validation)
        self._warn_of_collapse(validation.figures["accuracy"])
        self._end_window(step, trained_until)
        self._end_epoch(validation.figures, step=step, is_best=is_best)

    def _keep_best(self, validation: Validation) -> bool:
        """Saves the model if it is the best so far, and returns whether it is."""
        state, loss = self.state, validation.figures["loss"]
        if not math.isfinite(loss):
            raise RunError(
                f"the validation loss is {loss} at step {int(state.step)}, with a learning "
                f"rate of {self.config.learning_rate}; try a tenth of it in a new model_dir"
            )
        is_best = loss < float(state.best_loss)
        if is_best:
            state.best_loss.assign(loss)
            state.best_epoch.assign(state.epoch + 1)
            self._checkpoints.save_best()
            self._monitor.report_best(
                validation.figures, self._objective.embeddings(), step=int(state.step)
            )
        return is_best

    def _end_epoch(self, validation: dict[str, float], *, step: int, is_best: bool) -> None:
        """Records an epoch everywhere, and saves the state."""
        state, train = self.state, self.state.totals.result()
        epoch = int(state.epoch.assign_add(1))
        row = self._monitor.prepare_epoch(train, validation, epoch=epoch, step=step)
        self._report_histograms(step)
        state.stale_epochs.assign(0 if is_best else int(state.stale_epochs) + 1)
        state.totals.reset()
        self._save()
        self._monitor.finish_epoch(row)
        _log.info(
            "epoch %d/%d  train %s  validation %s%s",
            epoch,
            self._epochs,
            _format_figures(train),
            _format_figures(validation),
            "  (the best so far)" if is_best else "",
        )

    def _report_histograms(self, step: int) -> None:
        weights = self.state.model.trainable_variables
        names = short_names([weight.path for weight in weights])
        for group, samples in (
            ("weights", [sample(weight.value) for weight in weights]),
            ("weight_gradients", self.state.gradients),
        ):
            self._monitor.report_histograms(group, zip(names, samples, strict=True), step=step)

    def _warn_of_collapse(self, accuracy: float) -> None:
        share = float(self._validation.labels.mean())
        guessing, error = max(share, 1 - share), 0.5 / math.sqrt(len(self._validation))
        best = max(self._monitor.accuracies(), default=0.0)
        if accuracy <= guessing + 2 * error < best - 2 * error:
            _log.warning(
                "training has collapsed: validation accuracy fell from %.3f to %.3f, and guessing "
                "reaches %.3f. The model of epoch %d stays the best, and is the one that is used; "
                "a smaller --learning_rate or --clip_norm is steadier",
                best,
                accuracy,
                guessing,
                int(self.state.best_epoch),
            )

    def _save(self) -> None:
        now = time.monotonic()
        self.state.seconds.assign_add(now - self._saved_at)
        self._saved_at = now
        self._monitor.flush()
        self._checkpoints.save()


class _Pace:
    """Finds how many steps make a call that is long for Python and short for a person.

    Args:
        is_steady: Whether it is always the same number.
    """

    def __init__(self, *, is_steady: bool) -> None:
        self._is_steady = is_steady
        self._seconds_per_step = _SECONDS_A_CALL

    def steps(self) -> int:
        """Returns how many steps to take before the next check, at least 1."""
        if self._is_steady:
            return _STEADY_STEPS
        return max(1, int(_SECONDS_A_CALL / self._seconds_per_step))

    @contextlib.contextmanager
    def measured(self, steps: int) -> Iterator[None]:
        """Measures a call of so many steps."""
        start = time.monotonic()
        yield
        self._seconds_per_step = max(time.monotonic() - start, 1e-6) / steps


def _format_figures(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
