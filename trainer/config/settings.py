"""The settings of a run: the default, range and help text of each, in one place."""

from __future__ import annotations

import dataclasses
import math
import re

from model import ENCODERS
from pipeline import DATASETS
from pipeline.errors import UserError, shorten
from pipeline.files.file_format import QUOTING, FileFormat
from pipeline.labels import parse_label_map
from trainer.config.checks import MIN_FRACTION, check_scorers
from trainer.config.fields import check_value, setting

# The title of each group of settings, by the name of the first setting in the group.
GROUPS = {
    "dataset": "data",
    "punctuation": "input",
    "encoder": "model",
    "batch_size": "training",
    "precision": "devices",
    "checkpoint_every": "checkpoints and TensorBoard",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a run. Each field is also a flag of scripts.train.

    Raises:
        UserError: A value is out of range.
    """

    dataset: str = setting(
        "imdb_reviews",
        f"data set to train on: {', '.join(DATASETS)} or another name in TensorFlow Datasets, or a "
        "file, folder or pattern of CSV, TSV, JSON Lines or Parquet",
    )
    text_column: str = setting(
        "text", "column of the text; several, separated by commas, are joined"
    )
    label_column: str = setting("label", "column of the label")
    split_column: str = setting(
        "",
        "column in your files that contains train, validation, test or unsupervised; empty: none",
    )
    train_split: str = setting("", "TFDS split to train on, such as train[:80%]; empty: train")
    validation_split: str = setting(
        "", "TFDS split for validation; empty: the one of that name, or a part of the train split"
    )
    test_split: str = setting(
        "", "TFDS split to test on; empty: the one of that name, if it has labels"
    )
    validation_fraction: float = setting(
        0.2,
        "fraction of the train split that becomes the validation split, if the data has none; "
        "0: none, for --encoder=none or --train_layers=0, which cross-fitting validates",
        between=(0.0, 0.9),
    )
    test_fraction: float = setting(
        0.2,
        "fraction of the train split that becomes the test split, if the data has none",
        between=(MIN_FRACTION, 0.9),
    )
    skip_bad_rows: bool = setting(False, "skip unusable rows of your files instead of stopping")
    splits_from_names: bool = setting(
        True,
        "read the split from the first or last word in the name of your file or folder, such as "
        "train, validation, test or unsupervised",
    )
    drop_duplicates: bool = setting(
        False,
        "in your files, drop train examples whose text is also in validation or test, and "
        "validation examples whose text is also in test",
    )
    positive_label: str = setting(
        "",
        "label whose probability is predicted; empty: the larger number, or the last label in "
        "alphabetical order (TensorFlow Datasets: the last label)",
    )
    label_map: str = setting(
        "",
        "new names of labels, such as 1:neg,2:neg,3:pos; labels with the same new name are merged",
    )
    encoding: str = setting(
        "auto",
        "encoding of your files, such as cp1252; auto: from the byte order mark, otherwise UTF-8",
    )
    delimiter: str = setting(
        "auto",
        "column delimiter of your CSV and TSV files: one character, or tab; auto: comma, tab, "
        "semicolon or |, whichever gives the required columns",
    )
    quoting: str = setting(
        "auto",
        "csv: fields of your CSV and TSV files may be quoted; none: quotes belong to the text; "
        "auto: csv if the whole file is valid with quoting, otherwise none",
        choices=QUOTING,
    )
    data_dir: str = setting(
        "", "folder of TensorFlow Datasets; empty: the default folder", may_change=True
    )
    download: bool = setting(
        True, "download and prepare the data set if it is not in data_dir", may_change=True
    )
    cache_dir: str = setting(
        "~/.cache/text-sentiment",
        "folder that caches texts, vocabularies and token ids for the next run; empty: no cache",
        may_change=True,
    )
    cache_gb: float = setting(
        10.0,
        "maximum size of the cache in gigabytes; above it, the least recently used entries are "
        "deleted, except those used in the last hour",
        between=(0.0, 1e6),
        may_change=True,
    )
    punctuation: str = setting(
        "drop",
        "drop: remove punctuation; keep: each punctuation mark is a token",
        choices=("drop", "keep"),
    )
    vocab_size: int = setting(
        10_000, "vocabulary size, including padding and out-of-vocabulary", between=(3, 10_000_000)
    )
    sequence_length: int = setting(500, "maximum number of tokens per text", between=(1, 100_000))
    truncate: str = setting(
        "tail",
        "which tokens of a longer text to keep: its head, its tail, or half of them at each end",
        choices=("head", "tail", "ends"),
    )
    encoder: str = setting(
        "stacked_lstm",
        f"encoder of the neural scorer: {', '.join(ENCODERS)}; several, separated by commas: an "
        "ensemble; none: n-grams only",
    )
    encoder_length: int = setting(
        0,
        "number of tokens that encoders read, from the end of the text, or with --pretrained as "
        "--truncate says; 0: all, or as many as the pretrained encoder can read",
        between=(0, 100_000),
    )
    window: int = setting(
        0,
        "in training, encoders read this many consecutive tokens from a random position; 0: all",
        between=(0, 100_000),
    )
    pretrained: str = setting(
        "",
        "folder of a pretrained encoder (BERT, DistilBERT) in Hugging Face's format, which is used "
        "in place of --encoder; empty: none",
    )
    train_layers: int = setting(
        -1,
        "number of layers of the pretrained encoder, counted from the last, that are trained; "
        "-1: all, and the embeddings; 0: none; logistic regression is fitted to its vectors",
        between=(-1, 1000),
    )
    pooling: str = setting(
        "mean",
        "vector of a text: the mean of the pretrained encoder's vectors, or that of [CLS]",
        choices=("mean", "cls"),
    )
    ngrams: int = setting(
        0,
        "maximum length in tokens of the n-grams of the n-gram scorer; 0: no n-gram scorer",
        between=(0, 8),
    )
    ngram_weight: float = setting(
        0.8, "weight of the n-grams' logits when added to those of encoders", between=(0.01, 1.0)
    )
    teacher: str = setting(
        "",
        "whose probabilities label the unlabelled texts: ngrams for this run's own n-grams, or the "
        "model_dir of a run with the same splits; empty: no teacher",
    )
    units: int = setting(128, "units of each encoder", between=(1, 8192))
    embedding_dim: int = setting(128, "dimensions of the embedding of a token", between=(1, 8192))
    embedding_rate: float = setting(
        1.0, "learning rate of the embedding, as a multiple of --learning_rate", between=(1e-3, 1e3)
    )
    dropout: float = setting(0.3, "dropout rate of embeddings and encodings", between=(0.0, 0.95))
    word_dropout: float = setting(0.0, "dropout rate of whole tokens", between=(0.0, 0.95))
    batch_size: int = setting(64, "examples per step, over all devices", between=(1, 1_000_000))
    epochs: int = setting(
        5, "passes over the training examples", between=(1, 1_000_000), may_change=True
    )
    min_steps: int = setting(
        0,
        "minimum number of steps; if --epochs gives fewer, epochs are added",
        between=(0, 1_000_000),
        may_change=True,
    )
    max_steps: int = setting(0, "maximum number of steps; 0: no limit", minimum=0, may_change=True)
    learning_rate: float = setting(1e-3, "learning rate of Adam", between=(1e-9, 10.0))
    decay: str = setting(
        "none",
        "decay of the learning rate, to a hundredth at the last step",
        choices=("none", "linear"),
    )
    warmup: float = setting(
        0.0,
        "fraction of all steps in which the learning rate rises linearly from 0",
        between=(0.0, 0.9),
    )
    weight_decay: float = setting(
        0.0,
        "decoupled weight decay: each step subtracts this fraction of every weight, times the "
        "learning rate; biases and layer normalizations are excluded",
        between=(0.0, 1e3),
    )
    clip_norm: float = setting(
        1.0, "maximum global norm of the gradients; 0: no clipping", between=(0.0, 1e9)
    )
    class_weights: str = setting(
        "",
        "weights of the classes in the training loss: balanced (rare classes count more), or "
        "numbers by label such as neg:1,pos:3; empty: none",
    )
    best_metric: str = setting(
        "loss",
        "validation metric that decides which epoch is best",
        choices=("loss", "accuracy", "macro_f1"),
    )
    early_stopping_patience: int = setting(
        0,
        "stop after this many epochs without a better validation --best_metric; 0: never",
        minimum=0,
        may_change=True,
    )
    seed: int = setting(
        0,
        "seed of the initial weights, the order of examples and dropout",
        between=(0, 2**31 - 1_000),
    )
    precision: str = setting(
        "auto",
        "Keras dtype policy; auto: mixed_float16 on a GPU with tensor cores, otherwise float32",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )
    distribute: str = setting(
        "auto",
        "none: one device; mirrored: all GPUs of this machine; multi_worker: the devices of all "
        "workers in TF_CONFIG; auto: multi_worker if TF_CONFIG is set, mirrored if there are "
        "several GPUs, otherwise none",
        choices=("auto", "none", "mirrored", "multi_worker"),
        may_change=True,
    )
    checkpoint_every: int = setting(
        200, "steps between checkpoints; each epoch also ends with one", minimum=1, may_change=True
    )
    summary_every: int = setting(20, "steps between points of TensorBoard's curves", minimum=1)
    profile_steps: str = setting(
        "",
        "for TensorBoard's profiler, record the steps after step A up to step B, such as 100,110; "
        "empty: none",
        may_change=True,
    )

    def __post_init__(self) -> None:
        """Checks each value against its field's type, choices and range."""
        for field in dataclasses.fields(self):
            check_value(field, getattr(self, field.name))
        if not self.dataset:
            raise UserError(f"name the data: --dataset=FILE, or one of {', '.join(DATASETS)}")
        _ = self.file_format, self.label_mapping  # checks their values
        columns = (*self.text_columns, self.label_column)
        if "" in columns or len(set(columns)) < len(columns):
            raise UserError(
                f"--text_column={shorten(self.text_column)} and --label_column="
                f"{shorten(self.label_column)} must name different columns, each once"
            )
        if not re.fullmatch(r"(balanced|.*:.*)?", self.class_weights, re.DOTALL):
            raise UserError(
                f"--class_weights={shorten(self.class_weights)} is not balanced or like neg:1,pos:3"
            )
        check_scorers(self)
        is_valid = re.fullmatch(r"(\d{1,15},\d{1,15})?", self.profile_steps)
        if not is_valid or self.profile_range != tuple(sorted(set(self.profile_range))):
            raise UserError(
                f"--profile_steps={shorten(self.profile_steps)} is invalid; write a step and a "
                "later one, such as --profile_steps=100,110"
            )

    @property
    def file_format(self) -> FileFormat:
        """Returns the format of the user's files."""
        return FileFormat(self.encoding, self.delimiter, self.quoting)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Returns the columns of the text, which are joined by a space."""
        return tuple(self.text_column.split(","))

    @property
    def label_mapping(self) -> dict[str, str]:
        """Returns the new names of labels, by their old names."""
        return parse_label_map(self.label_map)

    @property
    def encoders(self) -> tuple[str, ...]:
        """Returns the encoder of each neural scorer."""
        if self.pretrained:
            return ("pretrained",)
        return () if self.encoder == "none" else tuple(self.encoder.split(","))

    @property
    def has_schedule(self) -> bool:
        """Returns whether the learning rate changes during training."""
        return self.decay != "none" or self.warmup > 0

    @property
    def has_frozen_encoder(self) -> bool:
        """Returns whether the encoder is pretrained, and none of its layers is trained."""
        return bool(self.pretrained) and self.train_layers == 0

    @property
    def has_steps(self) -> bool:
        """Returns whether an encoder is trained by steps; all else is fitted without steps."""
        return bool(self.encoders) and not self.has_frozen_encoder

    @property
    def profile_range(self) -> tuple[int, ...]:
        """Returns A and B, to profile the steps A + 1 to B; or an empty tuple."""
        return tuple(map(int, self.profile_steps.split(","))) if self.profile_steps else ()

    def differences(self, other: TrainConfig) -> list[str]:
        """Lists differences of settings that must not change, as `name (this value, not other)`."""
        may_change = set(changeable())
        if self.has_schedule:  # the learning rate of every step depends on the number of steps
            may_change -= {"epochs", "min_steps", "max_steps"}
        elif (other.max_steps or math.inf) < (self.max_steps or math.inf):  # it may only grow
            may_change.remove("max_steps")
        names = [field.name for field in dataclasses.fields(self) if field.name not in may_change]
        values = [(name, getattr(self, name), getattr(other, name)) for name in names]
        return [f"{name} ({mine}, not {theirs})" for name, mine, theirs in values if mine != theirs]


def changeable() -> list[str]:
    """Returns the names of the settings that may change when a run is resumed."""
    return [f.name for f in dataclasses.fields(TrainConfig) if f.metadata["may_change"]]
