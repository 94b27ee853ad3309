"""Compares a pretrained encoder with PyTorch: python -m scripts.dev.fine_tuning [flags].

Needs `pip install torch transformers`, --pretrained and --dataset, with two labels and an uncased
vocab.txt. Both programs get the same token ids in the same batches, with --pooling=mean. Each
measurement runs in its own process, and they alternate.

  training    seconds per step, without the first three: gradients, clipping and AdamW
  one text    milliseconds from a text to its probability, by the SavedModel
  many texts  texts per second, in batches of 32

Progress goes to stderr, a Markdown table to stdout.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from pipeline.errors import UserError
from scripts.cli import commands, streams
from scripts.cli.flags import FLAGS, define_setting_flags, get_settings
from scripts.dev.measure.measuring import Measurement, measure_in_process
from scripts.dev.measure.records import Recorder
from scripts.dev.measure.tables import Measurements, format_fine_tuning
from trainer.config import TrainConfig

if TYPE_CHECKING:
    from pipeline.corpus import Corpus
    from trainer.artifacts.pretrained import PretrainedEncoder

_WARM_UP = 3  # steps or calls that are not measured
_BATCH, _TEXTS, _REPEATS = 32, 1000, 20
_PROGRAMS = {"ours": ("training", "serving"), "pytorch": ("pytorch",)}  # and their processes

Predict = Callable[[list[str]], object]


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_integer("steps", 40, "steps to measure", lower_bound=1)
    flags.DEFINE_integer("repeats", 2, "how often to repeat each measurement", lower_bound=1)
    flags.DEFINE_string("json", "", "file to write all measurements to")
    flags.DEFINE_string("measure", "", "run only this part, in this process, and print JSON")
    flags.DEFINE_string("folder", "", "folder for the files of --measure")
    define_setting_flags()


def main() -> None:
    """Runs the measurements, and prints medians and ratios."""
    config = get_settings()
    if not config.pretrained:
        raise UserError("name the folder of the encoder: --pretrained=FOLDER")
    if config.ngrams or config.encoder_length or config.truncate != "head":
        raise UserError("use --ngrams=0 --encoder_length=0 --truncate=head, as PyTorch does here")
    if FLAGS.measure:
        print(json.dumps(_measure(FLAGS.measure, config)))
        return
    print(format_fine_tuning(_measure_all(FLAGS.repeats)))


def _measure_all(repeats: int) -> Measurements:
    recorder = Recorder("scripts.dev.fine_tuning")
    results: Measurements = {program: [] for program in _PROGRAMS}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            for program, parts in _PROGRAMS.items():
                values: Measurement = {}
                for part in parts:
                    arguments = [*sys.argv[1:], f"--measure={part}", f"--folder={folder}"]
                    values |= measure_in_process("scripts.dev.fine_tuning", arguments)
                results[program].append(values)
                streams.print_message(f"{program}: {values}")
                recorder.write(results)
    return results


def _measure(program: str, config: TrainConfig) -> Measurement:
    if program == "pytorch":
        return _measure_pytorch(config, Path(FLAGS.folder))
    if program == "serving":
        return _measure_serving(Path(FLAGS.folder))
    with streams.quiet_stderr():
        from trainer.artifacts.pretrained import read_encoder_folder
        from trainer.data import open_corpus
        from trainer.runtime import devices

    devices.set_threads(config.batch_size)
    encoder = read_encoder_folder(config.pretrained)
    corpus = open_corpus(config, standardization=encoder.tokenizer.standardization)
    return _measure_ours(config, corpus, encoder, Path(FLAGS.folder))


def _measure_ours(
    config: TrainConfig, corpus: Corpus, encoder: PretrainedEncoder, folder: Path
) -> Measurement:
    """Measures this project; writes the batches and the texts for PyTorch to the folder."""
    import tensorflow as tf

    from pipeline.batches import training_batches
    from trainer.artifacts.export import export
    from trainer.data import make_tokenizer
    from trainer.preparation import prepare_run
    from trainer.run import train

    (folder / "steps").mkdir()
    loop = prepare_run(config, corpus, folder / "steps", pretrained=encoder)
    examples = corpus.examples("train", make_tokenizer(encoder.tokens, config, encoder.tokenizer))
    batches = training_batches(examples, batch_size=config.batch_size, seed=config.seed, epoch=0)
    for number, (token_ids, labels, _) in enumerate(batches):
        if number < _WARM_UP + FLAGS.steps:
            np.savez(folder / f"{number}.npz", token_ids=token_ids, labels=labels)
    positions = np.arange(min(_TEXTS, len(examples)))
    texts = [text.decode() for text in corpus.original_texts("train", positions)]
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    iterator = iter(batches)
    seconds = _time_steps(lambda _: loop.train_step.run(iterator, tf.constant(1, tf.int64)))
    train(dataclasses.replace(config, max_steps=1), folder / "run")
    export(folder / "run", folder / "export")
    return seconds


def _measure_serving(folder: Path) -> Measurement:
    """Measures the SavedModel, with TensorFlow's own number of threads."""
    with streams.quiet_stderr():
        import tensorflow as tf

    serve = tf.saved_model.load(str(folder / "export")).signatures["serving_default"]
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    return _measure_predictions(lambda some: serve(tf.constant(some)), texts)


def _measure_pytorch(config: TrainConfig, folder: Path) -> Measurement:
    """Measures PyTorch, in a process without TensorFlow: together they crash."""
    try:
        import torch
        from tokenizers import BertWordPieceTokenizer
        from transformers import AutoModel
    except ImportError as error:
        raise UserError(f"this needs {error.name}: pip install torch transformers") from error

    torch.manual_seed(config.seed)
    encoder = AutoModel.from_pretrained(config.pretrained)
    head, dropout = torch.nn.Linear(encoder.config.hidden_size, 1), torch.nn.Dropout(config.dropout)
    named = [*encoder.named_parameters(), *head.named_parameters()]
    decayed = [p for n, p in named if not n.endswith("bias") and "LayerNorm" not in n]
    others = [p for n, p in named if n.endswith("bias") or "LayerNorm" in n]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}]
    groups.append({"params": others, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    is_mixed = config.precision == "mixed_bfloat16"

    def logits(token_ids: Any) -> Any:  # noqa: ANN401 a tensor of PyTorch
        mask = (token_ids > 0).long()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            vectors = encoder(input_ids=token_ids, attention_mask=mask).last_hidden_state
        weights = mask[..., None].float()
        return head(dropout((vectors.float() * weights).sum(1) / weights.sum(1)))[:, 0]

    def step(number: int) -> None:
        batch = np.load(folder / f"{number}.npz")
        found = logits(torch.from_numpy(batch["token_ids"]).long())
        targets = torch.from_numpy(batch["labels"]).float()
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(found, targets).backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], config.clip_norm)
        optimizer.step()

    encoder.train()
    seconds = _time_steps(step)
    encoder.eval()
    dropout.eval()
    tokenizer = BertWordPieceTokenizer(str(Path(config.pretrained) / "vocab.txt"))
    tokenizer.enable_truncation(config.sequence_length)

    def predict(some: list[str]) -> object:
        encoded = [encoding.ids for encoding in tokenizer.encode_batch(some)]
        longest = max(map(len, encoded))
        padded = torch.tensor([ids + [0] * (longest - len(ids)) for ids in encoded])
        with torch.no_grad():
            return torch.sigmoid(logits(padded)).numpy()

    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    return seconds | _measure_predictions(predict, texts)


def _time_steps(step: Callable[[int], object]) -> Measurement:
    for number in range(_WARM_UP):
        step(number)
    start = time.monotonic()
    for number in range(FLAGS.steps):
        step(_WARM_UP + number)
    return {"training, s per step": (time.monotonic() - start) / FLAGS.steps}


def _measure_predictions(predict: Predict, texts: Sequence[str]) -> Measurement:
    """Measures the latency and the speed of a function that predicts texts."""
    chunks = [list(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)]
    for some in chunks[:_WARM_UP]:
        predict(some[:1])
        predict(some)
    latencies = []
    for text in texts[:_REPEATS]:
        start = time.monotonic()
        predict([text])
        latencies.append(time.monotonic() - start)
    start = time.monotonic()
    for some in chunks:
        predict(some)
    speed = len(texts) / (time.monotonic() - start)
    return {"one text, ms": 1000 * statistics.median(latencies), "many texts, texts/s": speed}


if __name__ == "__main__":
    commands.run(main, define_flags)
