"""Opens the data of a run, and checks it before training starts."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline import DATASETS
from pipeline.cache import Cache
from pipeline.corpus import Corpus, code_hash
from pipeline.datasets import Dataset, open_dataset
from pipeline.errors import UserError, quote, translate_disk_full
from pipeline.examples import Examples
from pipeline.file_dataset.cuts import CutSettings
from pipeline.file_dataset.dataset import FileDataset, FileSettings
from pipeline.file_dataset.rows import Columns
from pipeline.text.standardization import standardize
from pipeline.vocabulary import Vectorizer
from trainer.config import TrainConfig
from trainer.monitoring.progress import with_progress
from trainer.runtime import processor

_log = logging.getLogger(__name__)

_FEWEST_VALIDATION = 2
_FEW = 10  # examples of a class in train; fewer cause a warning
_SMALL_SHARE = 0.01  # of train; a class with less causes a warning
# What to type if a cut split lacks examples.
_FLAGS = {"validation": "--validation_fraction", "test": "--test_fraction"}


def open_corpus(config: TrainConfig, *, label_names: Sequence[str] | None = None) -> Corpus:
    """Opens the data set of a run, and prepares it if it is not prepared yet.

    Args:
        config: The settings.
        label_names: The labels in the order of an existing run; None for a new run.

    Raises:
        UserError: The data set cannot be used, or has other labels.
        RunError: It is damaged.
    """
    cache = _open_cache(config)
    if config.dataset in DATASETS:
        dataset: Dataset = open_dataset(
            config.dataset,
            data_dir=config.data_dir or None,
            download=config.download,
            positive_label=config.positive_label,
            label_names=label_names,
        )
    else:
        with translate_disk_full("the cache", cache.root):
            dataset = _open_files(config, cache, label_names)
    return make_corpus(config, dataset, cache=cache)


def make_corpus(
    config: TrainConfig,
    dataset: Dataset,
    *,
    cache: Cache | None = None,
) -> Corpus:
    """Makes the corpus of an open data set; see `open_corpus`."""
    return Corpus(
        dataset,
        validation_fraction=config.validation_fraction,
        punctuation=config.punctuation,
        vocab_size=config.vocab_size,
        cache=cache or _open_cache(config),
        with_progress=with_progress,
        parallel_calls=processor.cores(),
    )


def make_vectorizer(words: Sequence[str], config: TrainConfig) -> Vectorizer:
    """Makes the vectorizer of a run from its vocabulary."""
    return Vectorizer(
        words,
        sequence_length=config.sequence_length,
        truncate=config.truncate,
        punctuation=config.punctuation,
    )


def _open_files(
    config: TrainConfig,
    cache: Cache,
    label_names: Sequence[str] | None,
) -> FileDataset:
    settings = FileSettings(
        Columns(config.text_column, config.label_column, config.split_column),
        skip_bad_rows=config.skip_bad_rows,
        splits_from_names=config.splits_from_names,
        positive_label=config.positive_label,
        file_format=config.file_format,
    )
    cuts = CutSettings(config.validation_fraction, config.test_fraction, config.drop_duplicates)
    return FileDataset(
        config.dataset,
        settings,
        cuts,
        cache=cache,
        code=code_hash(),
        label_names=label_names,
        with_progress=functools.partial(with_progress, what=f"parsing {config.dataset}"),
    )


def _open_cache(config: TrainConfig) -> Cache:
    folder = Path(config.cache_dir).expanduser() if config.cache_dir else None
    return Cache(folder, limit=int(config.cache_gb * 1e9))


def check_data(data: Corpus, config: TrainConfig) -> None:
    """Logs what is found in the data, and checks that all splits can be used.

    Raises:
        UserError: A split has too few examples, or lacks a class.
    """
    names = data.dataset.label_names
    order = ", ".join(f"{number} = {quote(name)[1:-1]}" for number, name in enumerate(names))
    _log.info("labels: %s (positive)", order)
    data.log_findings()
    counts = data.class_counts()
    _check_classes(data, counts, config)
    _check_sizes(data, counts, config)
    _warn_imbalance(names, counts["train"], config)
    _check_texts(data.texts("train"), data.dataset, config)


def check_same_data(
    recorded: Mapping[str, str], data: Corpus, splits: Sequence[str], *, what: str
) -> None:
    """Checks that data is the same as what a run was trained on.

    Args:
        recorded: The run's fingerprints; parts without one are not checked.
        data: The data.
        splits: The splits that are read.
        what: What the message calls the run.

    Raises:
        UserError: The data has changed.
    """
    if not recorded:
        return
    found = data.fingerprints(splits)
    changed = [part for part in found if part in recorded and found[part] != recorded[part]]
    if changed:
        raise UserError(
            f"{what} was trained on other data of the name {data.dataset.name}: texts, labels or "
            f"splits in {' and '.join(changed)} have changed since; put the data back, or train on "
            "the new data in another --model_dir"
        )


def check_steps(config: TrainConfig, steps: int) -> None:
    """Checks settings against the number of steps of the whole run.

    Raises:
        UserError: The learning rate would never be reached, or the weights never changed.
    """
    if config.warmup_steps > steps:
        raise UserError(
            f"--warmup_steps={config.warmup_steps} is longer than the whole run of {steps} steps; "
            f"give at most --warmup_steps={max(1, steps // 10)}, or more --epochs"
        )


def _check_sizes(data: Corpus, counts: dict[str, list[int]], config: TrainConfig) -> None:
    sizes = {split: sum(count) for split, count in counts.items()}
    sizes.setdefault("test", data.dataset.size("test"))
    fewest = {"train": 1, "validation": _FEWEST_VALIDATION, "test": 1}
    for split in ("validation", "test", "train"):
        if sizes[split] < fewest[split]:
            raise UserError(
                f"{config.dataset} leaves {_count(sizes[split])} for the {split} split, of "
                f"{_count(sum(sizes.values()))}; {_advice(split, data, config)}"
            )


def _check_classes(data: Corpus, counts: dict[str, list[int]], config: TrainConfig) -> None:
    """Checks that train and each split that is cut have all classes."""
    names = data.dataset.label_names
    for split, of_each in counts.items():
        for name, count in zip(names, of_each, strict=True):
            if count:
                continue
            if split != "train" and split not in data.cut_splits:
                _log.warning("the %s split has no example with label %s", split, quote(name))
                continue
            raise UserError(
                f"{config.dataset} has too few examples with label {quote(name)}: "
                f"{_listed(names, counts)}; each split needs one of each label, so give at least "
                f"{1 + len(data.cut_splits)} different texts of each, or "
                f"{_advice(split, data, config)}"
            )


def _advice(split: str, data: Corpus, config: TrainConfig) -> str:
    """Says what to type if a split has too few examples."""
    if split == "train":
        flags = [_FLAGS[cut] for cut in sorted(data.cut_splits)]
        return f"a smaller {' or '.join(flags)}" if flags else "give more of them for training"
    if split not in data.cut_splits:
        return f"give more of them for {split}"
    flag = _FLAGS[split]
    return (
        f"give another {flag} than {getattr(config, flag.removeprefix('--'))}, more examples, or "
        f"a file for {split}"
    )


def _warn_imbalance(names: Sequence[str], counts: Sequence[int], config: TrainConfig) -> None:
    total = sum(counts)
    for name, count in zip(names, counts, strict=True):
        if count < _FEW or count < _SMALL_SHARE * total:
            _log.warning(
                "%s: only %d of %d training examples (%.1f%%) have the label %s: accuracy says "
                "little about them, look at macro_f1 and recall",
                config.dataset,
                count,
                total,
                100 * count / total,
                quote(name),
            )


def _listed(names: Sequence[str], counts: dict[str, list[int]]) -> str:
    return ", ".join(
        f"{split} has "
        + " and ".join(f"{n} {quote(name)}" for name, n in zip(names, of_each, strict=True))
        for split, of_each in counts.items()
    )


def _count(number: int) -> str:
    return f"{number} example{'' if number == 1 else 's'}"


def _check_texts(texts: Examples, dataset: Dataset, config: TrainConfig) -> None:
    """Checks that the training texts have words, and warns if some have none.

    Args:
        texts: The standardized texts of the train split.
        dataset: The data set that they are read from.
        config: The settings.

    Raises:
        UserError: There is no text, or no text has a word.
    """
    if not len(texts):
        raise UserError(
            f"--dataset={config.dataset} has no texts left to train on; add rows, or lower "
            f"--validation_fraction={config.validation_fraction} or "
            f"--test_fraction={config.test_fraction}"
        )
    empty = int(np.count_nonzero(texts.lengths == 0))
    if empty == len(texts):
        raise UserError(
            f"--dataset={config.dataset}: no text has a word in the train split "
            f"({_texts(empty)}); {_remedy(dataset, config)}"
        )
    if empty:
        _log.warning(
            "%s: %d of %s in the train split have no word; each is trained on as one "
            "out-of-vocabulary token",
            config.dataset,
            empty,
            _texts(len(texts)),
        )


def warn_of_single_tokens(training: Examples, config: TrainConfig) -> None:
    """Warns if most training texts have only one token.

    Args:
        training: The train split as token ids.
        config: The settings.
    """
    single = int(np.count_nonzero(training.lengths == 1))
    if 2 * single <= len(training):
        return
    if config.sequence_length == 1:
        remedy = "--sequence_length=1 keeps one token of each text; a larger one keeps more"
    else:
        remedy = (
            "a model can then only memorize whole texts; check --text_column="
            f"{config.text_column}, and that words are separated by spaces"
        )
    _log.warning(
        "%s: %d of %s in the train split (%.0f%%) have one token; %s",
        config.dataset,
        single,
        _texts(len(training)),
        100 * single / len(training),
        remedy,
    )


def _remedy(dataset: Dataset, config: TrainConfig) -> str:
    if config.punctuation == "drop" and _has_punctuation(dataset):
        return "all punctuation is dropped, and there are no other tokens; add --punctuation=keep"
    return f"name the column of the texts with --text_column (it is {config.text_column} now)"


def _has_punctuation(dataset: Dataset) -> bool:
    """Says whether the train split has tokens if punctuation is kept."""
    batches = dataset.read("train").as_numpy_iterator()
    return any(standardize(texts, punctuation="keep").numpy().any() for texts, _ in batches)


def _texts(count: int) -> str:
    return "1 text" if count == 1 else f"{count} texts"
