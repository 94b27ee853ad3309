"""Every setting of a run: its default, its range and its help text, once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from model import ENCODERS
from pipeline import DATASETS
from pipeline.errors import UserError, quote, shorten
from pipeline.files.file_format import QUOTING, FileFormat

# What --help calls the settings from the one that is named on.
GROUPS = {
    "dataset": "which reviews",
    "validation_fraction": "what is read of them",
    "encoder": "the model",
    "batch_size": "how it learns",
    "precision": "where and how it runs",
}


# Settings of early versions that no longer exist, and the value with which they had no effect.
_REMOVED: dict[str, object] = {
    "objective": "sentiment",
    "init_from": "",
    "adversarial": "none",
    "perturbation": 0.5,
    "label_smoothing": 0.0,
    "gradient_accumulation": 1,
    "ema": 0.0,
}


def _setting(
    default: Any,  # noqa: ANN401 a setting may be of any flag type
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
    may_change: bool = False,
    before: Any = None,  # noqa: ANN401 the same
) -> Any:  # noqa: ANN401 stands for the field's type
    """Describes one field.

    `may_change` tells whether a run may be continued with another value. `before` is the value in runs that were made before
    the setting existed, if it is not the default; None: the default.
    """
    limits = {"minimum": minimum, "maximum": maximum, "choices": choices}
    uses = {"may_change": may_change, "before": before}
    return dataclasses.field(default=default, metadata={"help": help, **uses, **limits})


class UnknownSettingsError(ValueError):
    """Settings that this version of the program does not have; the message names them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a run; scripts/train.py has a flag for each field.

    Raises:
        UserError: A value is out of its range.
    """

    dataset: str = _setting(
        "imdb_reviews",
        f"which reviews to train on: {', '.join(DATASETS)}, or a file, folder or pattern of CSV, "
        "TSV or JSON Lines",
    )
    text_column: str = _setting("text", "in files of one's own, the column of the text")
    label_column: str = _setting("label", "in files of one's own, the column of the label")
    split_column: str = _setting(
        "",
        "in files of one's own, the column that says train, validation, test or unsupervised; "
        "empty for none",
    )
    test_fraction: float = _setting(
        0.2,
        "share of files of one's own that is cut off to test on, where none is for that",
        minimum=0.001,
        maximum=0.9,
    )
    skip_bad_rows: bool = _setting(
        False, "leave out rows of files of one's own that cannot be used, instead of stopping"
    )
    splits_from_names: bool = _setting(
        True,
        "take the split from the first or last word in the name of the user's file or folder, such "
        "as train, validation, test or unsupervised",
    )
    drop_duplicates: bool = _setting(
        False,
        "in the user's files, leave out train examples whose text is also in validation or test, "
        "and validation examples whose text is also in test",
    )
    positive_label: str = _setting(
        "",
        "the label whose probability is predicted; empty: the larger number, or the last word in "
        "alphabetical order",
    )
    encoding: str = _setting(
        "auto",
        "encoding of the user's files, such as cp1252; auto: the one of the byte order mark, else "
        "UTF-8",
    )
    delimiter: str = _setting(
        "auto",
        "delimiter of the columns of CSV and TSV files: one character, or tab; auto: comma, tab, "
        "semicolon or |, whichever yields the needed columns",
    )
    quoting: str = _setting(
        "auto",
        "csv: quotes enclose fields of CSV and TSV files; none: quotes are part of the text; "
        "auto: csv if the whole file can be read that way, else none",
        choices=QUOTING,
    )
    data_dir: str = _setting(
        "", "folder of tensorflow-datasets; empty for its default", may_change=True
    )
    download: bool = _setting(
        True, "fetch and prepare a data set that is not in data_dir", may_change=True
    )
    cache_dir: str = _setting(
        "~/.cache/text-sentiment",
        "folder where texts, vocabularies and token ids are kept for the next run; empty for none",
        may_change=True,
    )
    cache_gb: float = _setting(
        10.0,
        "largest size of the cache in gigabytes; beyond that, the least recently used entries are "
        "removed, except those used in the last hour",
        minimum=0.0,
        maximum=1e6,
        may_change=True,
    )
    validation_fraction: float = _setting(
        0.2, "share of the train split that is cut off for validation", minimum=0.001, maximum=0.9
    )
    punctuation: str = _setting(
        "drop", "whether marks such as ! are tokens of their own", choices=("drop", "keep")
    )
    vocab_size: int = _setting(
        10_000, "token ids, padding and unknown included", minimum=3, maximum=10_000_000
    )
    sequence_length: int = _setting(
        500, "tokens that are read of a review", minimum=1, maximum=100_000
    )
    truncate: str = _setting(
        "tail", "which end of a longer review is kept", choices=("head", "tail")
    )
    encoder: str = _setting(
        "stacked_lstm",
        f"what reads a review word by word: {', '.join(ENCODERS)}; several, with commas between "
        "them, score it together; none: the n-grams alone",
    )
    encoder_length: int = _setting(
        0,
        "tokens that encoders read of a review, at the end of those that are kept; 0: all",
        minimum=0,
        maximum=100_000,
    )
    window: int = _setting(
        0,
        "tokens that encoders read of a review in training, at a random place; 0: as elsewhere",
        minimum=0,
        maximum=100_000,
    )
    ngrams: int = _setting(
        0,
        "tokens in the longest phrases that are scored by themselves; 0: none are",
        minimum=0,
        maximum=8,
    )
    teacher: str = _setting(
        "",
        "model_dir of a run that has all parts of this one but the last encoder: they are taken "
        "over, and its probabilities are the labels of the unlabelled reviews; empty for none",
    )
    units: int = _setting(128, "size of an encoder", minimum=1, maximum=8192)
    embedding_dim: int = _setting(128, "size of a token's vector", minimum=1, maximum=8192)
    embedding_rate: float = _setting(
        1.0,
        "how many times longer a step of the embedding is than one of other weights",
        minimum=1e-3,
        maximum=1e3,
    )
    dropout: float = _setting(
        0.3, "share of embeddings and encodings dropped in training", minimum=0.0, maximum=0.95
    )
    word_dropout: float = _setting(
        0.0, "share of words whose whole vectors are dropped", minimum=0.0, maximum=0.95
    )
    batch_size: int = _setting(64, "reviews a step", minimum=1, maximum=1_000_000)
    epochs: int = _setting(
        5, "passes over the training reviews", minimum=1, maximum=1_000_000, may_change=True
    )
    max_steps: int = _setting(0, "stop after this many steps; 0: no bound", minimum=0)
    learning_rate: float = _setting(1e-3, "Adam's step size", minimum=1e-9, maximum=10.0)
    decay: str = _setting(
        "none",
        "how the learning rate falls to a hundredth of itself until the last step",
        choices=("none", "linear", "cosine"),
    )
    warmup_steps: int = _setting(
        0, "steps over which the learning rate rises from nothing", minimum=0, maximum=10**9
    )
    weight_decay: float = _setting(
        0.0,
        "share of each weight but the biases that a step takes off, times the learning rate",
        minimum=0.0,
        maximum=1e3,
    )
    clip_norm: float = _setting(
        1.0, "bound on the norm of the gradient; 0: none", minimum=0.0, maximum=1e9
    )
    precision: str = _setting(
        "auto",
        "auto is mixed_float16 on a GPU with tensor cores, else float32",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )
    distribute: str = _setting(
        "auto",
        "none: one device; mirrored: all GPUs of this machine; multi_worker: those of all "
        "processes of TF_CONFIG; auto: as TF_CONFIG and the GPUs suggest. --batch_size is that of "
        "all together",
        choices=("auto", "none", "mirrored", "multi_worker"),
        may_change=True,
    )
    seed: int = _setting(0, "decides weights, order and dropout", minimum=0, maximum=2**31 - 1_000)
    checkpoint_every: int = _setting(
        200,
        "steps between checkpoints; one at each epoch's end as well",
        minimum=1,
        may_change=True,
    )
    summary_every: int = _setting(20, "steps between points of TensorBoard's curves", minimum=1)
    profile_steps: str = _setting(
        "",
        "two steps, such as 100,110: what happens between them is recorded for TensorBoard's "
        "profiler; empty for none",
        may_change=True,
    )
    early_stopping_patience: int = _setting(
        0,
        "stop after this many epochs without a better validation loss; 0: never",
        minimum=0,
        may_change=True,
    )

    def __post_init__(self) -> None:
        """Checks each value against its field's type, choices and range."""
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        _ = self.file_format  # checks its values
        columns = (self.text_column, self.label_column)
        if not all(columns) or len(set(columns)) < len(columns):
            text, label = map(shorten, columns)
            raise UserError(
                f"--text_column={text} and --label_column={label} do not name two columns; name "
                "that of the texts and that of the labels"
            )
        if not set(self.encoders) <= set(ENCODERS):
            raise UserError(
                f"--encoder={shorten(self.encoder)} is unknown; choose none, or one or "
                f"several of {', '.join(ENCODERS)}, with commas between them"
            )
        is_understood = re.fullmatch(r"(\d{1,15},\d{1,15})?", self.profile_steps)
        if not is_understood or self.profiled != tuple(sorted(set(self.profiled))):
            raise UserError(
                f"--profile_steps={shorten(self.profile_steps)} is not understood; write the step to "
                "begin at and the one to end at, such as --profile_steps=100,110"
            )
        if not self.encoders and not self.ngrams:
            raise UserError("--encoder=none leaves nothing to train; add --ngrams=3")
        if self.teacher and len(self.encoders) + bool(self.ngrams) < 2:
            raise UserError(
                "--teacher is the model without its last encoder, and this one has no other part; "
                "add --ngrams or an encoder that the teacher has"
            )

    @property
    def file_format(self) -> FileFormat:
        """Returns how the user's files are written."""
        return FileFormat(self.encoding, self.delimiter, self.quoting)

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names the encoder of each deep part."""
        return () if self.encoder == "none" else tuple(self.encoder.split(","))

    @property
    def profiled(self) -> tuple[int, ...]:
        """Returns the steps between which a profile is taken, or nothing."""
        return tuple(map(int, self.profile_steps.split(","))) if self.profile_steps else ()

    @classmethod
    def from_saved(cls, settings: Mapping[str, object]) -> TrainConfig:
        """Makes the settings of a run that this or another version of the program has saved.

        Args:
            settings: By name. A setting that is missing did not exist in that version.

        Raises:
            UnknownSettingsError: A setting does not exist in this version.
            UserError: A value is out of its range in this version.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        settings = {
            name: value
            for name, value in settings.items()
            if not (name in _REMOVED and value == _REMOVED[name])
        }
        unknown = sorted(set(settings) - set(fields))
        if unknown:
            raise UnknownSettingsError(", ".join(unknown))
        before = {name: field.metadata["before"] for name, field in fields.items()}
        earlier = {name: value for name, value in before.items() if value is not None}
        return cls(**{**earlier, **settings})

    def differences(self, other: TrainConfig) -> list[str]:
        """Lists the settings that differ and must not, as `name (this value, not the other)`."""
        return [
            f"{field.name} ({getattr(self, field.name)}, not {getattr(other, field.name)})"
            for field in dataclasses.fields(self)
            if not (field.metadata["may_change"] and self._is_free(field.name))
            and getattr(self, field.name) != getattr(other, field.name)
        ]

    def _is_free(self, name: str) -> bool:
        """Says whether nothing that was done so far depends on a setting."""
        return name != "epochs" or self.decay == "none"  # the last epoch decides each step's rate


def changeable() -> list[str]:
    """Names the settings that a run may be continued with another value of."""
    return [f.name for f in dataclasses.fields(TrainConfig) if f.metadata["may_change"]]


def _check(field: dataclasses.Field, value: object) -> None:
    expected = type(field.default)
    if type(value) is not expected and not (expected is float and type(value) is int):
        raise UserError(f"--{field.name}={quote(value)} is not of type {expected.__name__}")
    choices, minimum, maximum = (field.metadata[k] for k in ("choices", "minimum", "maximum"))
    if choices and value not in choices:
        raise UserError(
            f"--{field.name}={shorten(str(value))} is unknown; choose {' or '.join(choices)}"
        )
    too_small = minimum is not None and not value >= minimum  # not: also true of NaN
    too_large = maximum is not None and not value <= maximum
    if too_small or too_large:
        bounds = f"at least {minimum}" + (f" and at most {maximum}" if maximum is not None else "")
        raise UserError(f"--{field.name}={value} is out of range; it must be {bounds}")
