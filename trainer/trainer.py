"""The training loop: one step, and the epochs around them."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from pipeline.batches import NO_REVIEW, batches_per_epoch, training_batches
from pipeline.errors import Fault
from pipeline.reviews import Reviews
from trainer.checkpoints import Checkpoints, TrainState
from trainer.config import TrainConfig
from trainer.files import is_memory
from trainer.metrics import mean
from trainer.objectives import Objective
from trainer.profiling import Profile
from trainer.progress import Progress, announced
from trainer.records import History
from trainer.replicas import Replicas
from trainer.stopping import Stopped, StopSignals
from trainer.summaries import Summaries, sampled
from trainer.weight_names import short_names

_log = logging.getLogger(__name__)

_MOST_SKIPPED = 20  # steps in a row; float16 needs 16 to find its loss scale
_SHOWN = ("loss", "accuracy", "perplexity", "reviews_per_second")  # beside the bar
_STEADY_STEPS = 10
_SECONDS_A_CALL = 0.5  # between looks at signals and the clock
_BATCH_SIGNATURE = (tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.float32))


def last_step(config: TrainConfig, training: Reviews) -> int:
    """Returns the number of steps of a whole run."""
    steps = config.epochs * batches_per_epoch(training, config.batch_size)
    return min(steps, config.max_steps) if config.max_steps else steps


class Trainer:
    """Trains the model of a state.

    Args:
        config: The run's settings.
        state: What the run changes; restored already when the run goes on.
        objective: What its model is trained for.
        training: The training split.
        validation: The split that decides which model is best.
        replicas: Where its model was made.
        checkpoints: Where the state is saved.
        words: The vocabulary, for what people read.
        label_names: What labels 0 and 1 are called, likewise.

    Attributes:
        config: As given.
        state: As given; it changes as training goes.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: TrainState,
        *,
        objective: Objective,
        training: Reviews,
        validation: Reviews,
        replicas: Replicas,
        checkpoints: Checkpoints,
        words: Sequence[str],
        label_names: tuple[str, str],
    ) -> None:
        self.config = config
        self.state = state
        self._objective = objective
        self._training = training
        self._validation = validation
        self._replicas = replicas
        self._checkpoints = checkpoints
        self._words, self._label_names = words, label_names
        self._tokens, self._reviews = keras.metrics.Sum(), keras.metrics.Sum()
        self._last_loss = tf.Variable(0.0)  # of a step that was not taken
        self._lost_steps = tf.Variable(0)
        self._scales_loss = isinstance(state.optimizer, keras.optimizers.LossScaleOptimizer)
        self._steps_per_epoch = batches_per_epoch(training, config.batch_size)
        self._is_compiled = False
        self._last_step = last_step(config, training)
        self._epochs = math.ceil(self._last_step / self._steps_per_epoch)

    def is_finished(self) -> bool:
        """Says whether the last epoch is recorded, or patience is at its end."""
        patience = self.config.early_stopping_patience
        is_stale = 0 < patience <= int(self.state.stale_epochs)
        return int(self.state.epoch) >= self._epochs or is_stale

    def fit(self, model_dir: Path, *, stop: StopSignals) -> None:
        """Trains from where the state is to the end of the last epoch.

        Args:
            model_dir: Where curves and history are written.
            stop: Asked between steps whether to go on.

        Raises:
            Stopped: A signal came; the state is saved.
            Fault: The loss is not a number any more, memory or disk do not suffice, or another
                process of the run is gone.
        """
        self._open(model_dir)
        try:
            with self._faults_told():
                self._summaries.describe(self.config)
                if not int(self.state.step):
                    self._begin(stop)
                while not self.is_finished():
                    self._train_epoch(stop)
                    self._validate_epoch(stop)
                self._log_end()
        except Stopped:
            self._save()
            raise
        finally:
            self._progress.close()
            self._profile.close()
            self._summaries.close()

    def _open(self, model_dir: Path) -> None:
        """Opens what a run leaves behind, where an earlier process has left it."""
        epoch, step = int(self.state.epoch), int(self.state.step)
        # At the end of an epoch that is not recorded, this step's points are still to come.
        epoch_end = min((epoch + 1) * self._steps_per_epoch, self._last_step)
        is_written = step < epoch_end or epoch >= self._epochs
        self._summaries = Summaries(
            model_dir,
            first_step=step + is_written,
            words=self._words,
            label_names=self._label_names,
        )
        self._profile = Profile(model_dir / "train", self.config.profiled)
        self._history = History(model_dir, epochs=epoch)
        self._progress = Progress(first_step=step, last_step=self._last_step)
        self._saved_at = time.monotonic()
        self._replicas.part_ways(self.state.model)

    def _begin(self, stop: StopSignals) -> None:
        """Does what is done once, before the first step."""
        self._objective.prepare(self._training, stop=stop)
        self._summaries.write_graph(self._objective.graph())
        self._save()  # from now on a folder without checkpoints has lost them

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

    def _validate_epoch(self, stop: StopSignals) -> None:
        trained_until = time.monotonic()
        with self._averaged():
            validation = self._objective.validate(
                self._validation, self._summaries, step=int(self.state.step), stop=stop
            )
            is_best = self._keep_best(validation)
        self._end_epoch(validation, trained_until, is_best=is_best)

    @contextlib.contextmanager
    def _faults_told(self) -> Iterator[None]:
        """Turns what TensorFlow raises into a Fault that people can act upon."""
        try:
            with self._replicas.losses_explained():
                yield
        except (MemoryError, tf.errors.ResourceExhaustedError, tf.errors.InternalError) as error:
            if not is_memory(error):
                raise
            raise Fault(
                "there is not enough memory for --batch_size="
                f"{self.config.batch_size} and --sequence_length={self.config.sequence_length}; "
                "smaller ones need less, in a new model_dir"
            ) from error

    @tf.function(
        input_signature=[tf.data.IteratorSpec(_BATCH_SIGNATURE), tf.TensorSpec([], tf.int64)]
    )
    def train_steps(self, batches: tf.data.Iterator, count: tf.Tensor) -> None:
        """Takes `count` steps on the next batches, without Python in between."""
        # Processes that gather the results of different steps would wait for each other forever.
        at_once = 1 if self._replicas.is_cluster else 10  # TensorFlow's own
        for left in tf.range(count, 0, -1):
            tf.autograph.experimental.set_loop_options(parallel_iterations=at_once)
            gradients, sums, measured = self._replicas.run(self._gradients, *next(batches))
            loss, reviews, tokens, norm = tf.unstack(self._replicas.first(sums))
            if tf.math.is_finite(norm):
                self._replicas.run(self._apply, gradients)
                self.state.skipped.assign(0)
                self.state.gradient_norm.update_state(norm)
                if tf.equal(left, 1):
                    self._keep_sample(gradients)
            else:
                self._skip(gradients, loss)
            measured = tf.unstack(self._replicas.gathered(measured), axis=1)
            if tf.math.is_finite(loss):
                for metrics in (self.state.window, self.state.totals):
                    metrics.update(*measured)
            self._reviews.update_state(reviews)
            self._tokens.update_state(tokens)
            self.state.step.assign_add(1)

    def _gradients(
        self, token_ids: tf.Tensor, labels: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Computes a replica's part of a step, and its sum over all replicas.

        Returns:
            The gradients, times the loss scale; loss, reviews, tokens and norm of the gradient
            <float32>[4]; and what the metrics' `update` takes, side by side, of this replica's
            reviews.
        """
        model, optimizer, state = self.state.model, self.state.optimizer, self.state
        token_ids, labels = self._replicas.part(token_ids), self._replicas.part(labels)
        with tf.GradientTape() as tape:
            losses, measured = self._objective.losses(token_ids, labels, state.step)
            # By the batch size of the settings: a smaller last batch is a smaller step.
            loss = tf.reduce_sum(losses) / self.config.batch_size
            scaled_loss = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, model.trainable_variables)
        # A dense gradient of the embedding: Keras' clipping counts repeated rows of a sparse one
        # as if they were different rows.
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        is_review = labels > NO_REVIEW
        tokens = tf.math.count_nonzero(tf.boolean_mask(token_ids, is_review), dtype=tf.float32)
        sums = tf.stack([loss, tf.reduce_sum(tf.cast(is_review, tf.float32)), tokens])
        *gradients, sums = self._replicas.summed([*gradients, sums])
        norm = tf.linalg.global_norm(gradients) / optimizer.scale_loss(1.0)
        return gradients, tf.concat([sums, [norm]], axis=0), tf.stack(measured, axis=1)

    def _apply(self, gradients: list[tf.Tensor]) -> None:
        self.state.optimizer.apply(gradients, self.state.model.trainable_variables)

    def _keep_sample(self, gradients: list[tf.Tensor]) -> None:
        scale = self.state.optimizer.scale_loss(1.0)
        for kept, gradient in zip(self.state.gradients, gradients, strict=True):
            kept.assign(sampled(self._replicas.first(gradient)) / scale)

    def _skip(self, gradients: list[tf.Tensor], loss: tf.Tensor) -> None:
        """Does not take a step that would make every weight NaN."""
        state = self.state
        if self._scales_loss:
            # It applies none of it either, but halves its scale.
            self._replicas.run(self._apply, gradients)
        state.skipped.assign_add(1)
        self._last_loss.assign(loss)
        is_overflow = self._scales_loss and tf.math.is_finite(loss)  # float16's everyday life
        if not is_overflow:
            self._lost_steps.assign_add(1)

    def _train_epoch(self, stop: StopSignals) -> None:
        epoch, step = int(self.state.epoch), int(self.state.step)
        end = min((epoch + 1) * self._steps_per_epoch, self._last_step)
        batches = training_batches(
            self._training,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            epoch=epoch,
            first_batch=step - epoch * self._steps_per_epoch,
            parts=self._replicas.count,
            mine=self._replicas.here,
        )
        self._start_window()
        self._progress.begin_epoch(f"{epoch + 1}/{self._epochs}")
        # Processes must agree on when to look up, and have clocks of their own.
        iterator, pace = iter(batches), _Pace(is_steady=self._replicas.is_cluster)
        while step < end:
            # The last step is written and saved with its epoch: no checkpoint lies in between.
            pauses = (self.config.summary_every, self.config.checkpoint_every)
            count = min(end - step, pace.steps(), *(every - step % every for every in pauses))
            self._profile.heed(step)
            count = self._profile.steps_left(step, count)
            with pace.measured(count), self._compiling():
                self.train_steps(iterator, tf.constant(count, tf.int64))
            step += count
            self._check_skipped(step)
            self._progress.advance(count)
            if step < end:
                if step % self.config.summary_every == 0:
                    self._end_window(step, time.monotonic())
                if step % self.config.checkpoint_every == 0:
                    self._save()
                stop.check()

    def _compiling(self) -> contextlib.AbstractContextManager[None]:
        """Announces that the first call of `train_steps` takes longer."""
        if self._is_compiled:
            return contextlib.nullcontext()
        self._is_compiled = True
        return announced("compiling the training step")

    def _start_window(self) -> None:
        for metric in (self._reviews, self._tokens):
            metric.reset_state()
        self._window_from = time.monotonic()

    def _end_window(self, step: int, until: float) -> None:
        """Writes a point of the curves over steps, with the throughput until that time."""
        state, seconds = self.state, until - self._window_from
        values = state.window.result()
        values["gradient_norm"] = mean(state.gradient_norm)
        values["learning_rate"] = float(tf.convert_to_tensor(state.optimizer.learning_rate))
        for name, count in (("reviews", self._reviews), ("tokens", self._tokens)):
            values[f"{name}_per_second"] = float(count.result()) / seconds
        self._summaries.write("train", "step", values, step=step)
        shown = {name: values[name] for name in _SHOWN if name in values}
        self._progress.tell(shown)
        lost = int(self._lost_steps)
        if lost:
            _log.warning("%d steps before step %d were not taken: no finite gradient", lost, step)
        self._lost_steps.assign(0)
        state.window.reset()
        state.gradient_norm.reset_state()
        self._start_window()

    def _check_skipped(self, step: int) -> None:
        skipped = int(self.state.skipped)
        if skipped < _MOST_SKIPPED:
            return
        loss = float(self._last_loss)
        if self._scales_loss and math.isfinite(loss):
            what, remedy = "the gradient overflows float16", "try --precision=float32"
        else:
            what = "the gradient is not finite" if math.isfinite(loss) else f"the loss is {loss}"
            remedy = "try a tenth of it"
        raise Fault(
            f"{what}: none of the last {skipped} steps up to step {step} was taken, with a "
            f"learning rate of {self.config.learning_rate}; {remedy} in a new model_dir. The "
            "checkpoints are from before that"
        )

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Has the model have its average weights for a while, where they are kept."""
        if not self.config.ema:
            yield
            return
        weights = self.state.model.trainable_variables
        own = [weight.numpy() for weight in weights]
        self.state.optimizer.finalize_variable_values(weights)
        try:
            yield
        finally:
            for weight, value in zip(weights, own, strict=True):
                weight.assign(value)

    def _keep_best(self, validation: dict[str, float]) -> bool:
        """Keeps the model if it is the best so far, and says whether it is."""
        state, loss = self.state, validation["loss"]
        if not math.isfinite(loss):
            raise Fault(
                f"the validation loss is {loss} at step {int(state.step)}, with a learning "
                f"rate of {self.config.learning_rate}; try a tenth of it in a new model_dir"
            )
        is_best = loss < float(state.best_loss)
        if is_best:
            state.best_loss.assign(loss)
            state.best_epoch.assign(state.epoch + 1)
            self._checkpoints.save_best()
            self._summaries.write("validation", "validation_best", validation, step=int(state.step))
            self._summaries.write_vectors(self._objective.vectors())
        return is_best

    def _end_epoch(
        self, validation: dict[str, float], trained_until: float, *, is_best: bool
    ) -> None:
        """Records an epoch everywhere, and saves the state."""
        state = self.state
        step, train = int(state.step), state.totals.result()
        if "accuracy" in validation:
            self._warn_of_collapse(validation["accuracy"])
        self._end_window(step, trained_until)
        epoch = int(state.epoch.assign_add(1))
        for split, values in (("train", train), ("validation", validation)):
            self._summaries.write(split, "epoch", values, step=step)
        names = short_names([weight.path for weight in state.model.trainable_variables])
        for group, values in (
            ("weights", [weight.value for weight in state.model.trainable_variables]),
            ("weight_gradients", state.gradients),
        ):
            self._summaries.write_histograms(group, zip(names, values, strict=True), step=step)
        row: dict[str, float] = {"epoch": epoch, "step": step}
        row |= {f"train_{name}": value for name, value in train.items()}
        row |= {f"validation_{name}": value for name, value in validation.items()}
        self._history.prepare(row)
        state.stale_epochs.assign(0 if is_best else int(state.stale_epochs) + 1)
        state.totals.reset()
        self._save()
        self._history.append(row)  # after the checkpoint, so that each row has one
        _log.info(
            "epoch %d/%d  train %s  validation %s%s",
            epoch,
            self._epochs,
            _in_words(train),
            _in_words(validation),
            "  (the best so far)" if is_best else "",
        )

    def _warn_of_collapse(self, accuracy: float) -> None:
        share = float(self._validation.labels.mean())
        guessing, error = max(share, 1 - share), 0.5 / math.sqrt(len(self._validation))
        best = max(self._history.accuracies(), default=0.0)
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
        self._summaries.flush()
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
        """Returns how many steps to take before looking up again, 1 at least."""
        if self._is_steady:
            return _STEADY_STEPS
        return max(1, int(_SECONDS_A_CALL / self._seconds_per_step))

    @contextlib.contextmanager
    def measured(self, steps: int) -> Iterator[None]:
        """Measures a call of so many steps."""
        start = time.monotonic()
        yield
        self._seconds_per_step = max(time.monotonic() - start, 1e-6) / steps


def _in_words(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())
