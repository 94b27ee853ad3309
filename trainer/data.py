"""Opens the corpus of a run, and checks it before training starts."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pipeline.cache import Cache
from pipeline.corpus import Corpus, Dataset
from pipeline.errors import UserError, quote, shorten
from pipeline.examples import Examples
from pipeline.file_dataset.dataset import RowDataset, RowSettings
from pipeline.file_dataset.sources import ArrayData, FileSource
from pipeline.file_dataset.splitting import SplitSettings
from pipeline.files.paths import expand_home, names_files
from pipeline.text.standardization import WordStandardization
from pipeline.text.tokenizer import Standardization, Tokenizer
from pipeline.text.wordpiece import WordPiece, WordPieceSettings
from pipeline.vocabulary import Vectorizer
from trainer.config import TrainConfig
from trainer.monitoring.progress import with_progress
from trainer.runtime import processor

_log = logging.getLogger(__name__)

_MIN_VALIDATION_SIZE = 2
# A class with fewer training examples, or with a smaller fraction of them, causes a warning. The
# fraction is for two classes.
_FEW_EXAMPLES = 10
_SMALL_FRACTION = 0.01
_SHOWN = 5  # labels that a message names


def open_corpus(
    config: TrainConfig,
    *,
    data: ArrayData | None = None,
    label_names: Sequence[str] | None = None,
    is_test_data: bool = False,
    standardization: Standardization | None = None,
) -> Corpus:
    """Opens the corpus of a run. Downloads and prepares the data set if necessary.

    Args:
        config: The settings.
        data: Data in memory, from `pipeline.from_arrays`; it replaces `config.dataset`.
        label_names: The labels of an existing run in their order; None for a new run.
        is_test_data: Whether nothing is trained on files: rows without a split are test rows.
        standardization: That of a pretrained encoder's tokenizer; None: that of `Vectorizer`.

    Raises:
        UserError: The data set cannot be used, or has other labels.
        RunError: The data set is damaged.
    """
    cache = _open_cache(config)
    splits = {split: getattr(config, f"{split}_split") for split in ("train", "validation", "test")}
    if data is None and not names_files(config.dataset):
        from pipeline.named_dataset.dataset import open_dataset  # TFDS is slow to import

        dataset: Dataset = open_dataset(
            config.dataset,
            data_dir=config.data_dir or None,
            download=config.download,
            text_columns=config.text_columns,
            label_column=config.label_column,
            splits=splits,
            label_map=config.label_mapping,
            positive_label=config.positive_label,
            label_names=label_names,
        )
    elif any(splits.values()):
        raise UserError(
            "--train_split, --validation_split and --test_split are for data sets of TensorFlow "
            "Datasets; for files: --split_column=COLUMN, or file names such as reviews_test.csv"
        )
    else:
        split_settings = dataclasses.replace(_split_settings(config), is_test_data=is_test_data)
        dataset = _open_rows(config, split_settings, data, cache, label_names)
    return make_corpus(config, dataset, cache=cache, standardization=standardization)


def make_corpus(
    config: TrainConfig,
    dataset: Dataset,
    *,
    cache: Cache | None = None,
    standardization: Standardization | None = None,
) -> Corpus:
    """Creates the corpus of a data set that is already open; see `open_corpus`."""
    return Corpus(
        dataset,
        split_settings=_split_settings(config),
        standardization=standardization or WordStandardization(config.punctuation),
        vocab_size=config.vocab_size,
        cache=cache or _open_cache(config),
        with_progress=with_progress,
        parallel_calls=processor.cores(),
    )


def make_tokenizer(
    tokens: Sequence[str], config: TrainConfig, pretrained: WordPieceSettings | None = None
) -> Tokenizer:
    """Creates the tokenizer of a run: a WordPiece if `pretrained` is given, or a Vectorizer."""
    length, truncate = config.sequence_length, config.truncate
    if pretrained is not None:
        return WordPiece(tokens, pretrained, sequence_length=length, truncate=truncate)
    return Vectorizer(
        tokens, sequence_length=length, truncate=truncate, punctuation=config.punctuation
    )


def _split_settings(config: TrainConfig) -> SplitSettings:
    return SplitSettings(config.validation_fraction, config.test_fraction, config.drop_duplicates)


def _open_rows(
    config: TrainConfig,
    split_settings: SplitSettings,
    data: ArrayData | None,
    cache: Cache,
    label_names: Sequence[str] | None,
) -> RowDataset:
    settings = RowSettings(
        config.text_columns,
        config.label_column,
        config.split_column,
        skip_bad_rows=config.skip_bad_rows,
        splits_from_names=config.splits_from_names,
        positive_label=config.positive_label,
        label_map=config.label_mapping,
        file_format=config.file_format,
    )
    source = data or FileSource(config.dataset, settings)
    return RowDataset(
        source,
        settings,
        split_settings,
        cache=cache,
        label_names=label_names,
        with_progress=functools.partial(with_progress, description=f"parsing {source.name}"),
    )


def _open_cache(config: TrainConfig) -> Cache:
    folder = expand_home(config.cache_dir) if config.cache_dir else None
    return Cache(folder, limit=int(config.cache_gb * 1e9))


def format_labels(names: Sequence[str]) -> str:
    """Formats the numbers and names of the labels for the log."""
    order = ", ".join(f"{number} = {quote(name)[1:-1]}" for number, name in enumerate(names))
    return shorten(order, 500) + (" (positive)" if len(names) == 2 else "")


def check_data(corpus: Corpus, config: TrainConfig) -> None:
    """Logs warnings about the data, and checks that every split can be used.

    Raises:
        UserError: A split has too few examples or lacks a class, or no text has a token.
    """
    _log.info("labels: %s", format_labels(corpus.dataset.label_names))
    corpus.log_findings()
    counts = corpus.class_counts()
    _check_classes(corpus, counts, config)
    _check_sizes(corpus, counts, config)
    _warn_of_rare_classes(corpus.dataset.label_names, counts["train"], config)
    _check_words(corpus.words("train"), config)


def _check_classes(corpus: Corpus, counts: dict[str, list[int]], config: TrainConfig) -> None:
    """Checks that train and the splits derived from it have two classes; warns of missing ones."""
    names = corpus.dataset.label_names
    for split, class_counts in counts.items():
        missing = [name for name, count in zip(names, class_counts, strict=True) if not count]
        must_vary = split == "train" or split in corpus.derived_splits
        if must_vary and len(missing) > len(names) - 2:
            raise UserError(
                f"{config.dataset} has too few examples with label {quote(missing[0])}: "
                f"{_describe(names, counts)}; each split needs examples of two labels, so give at "
                f"least {1 + len(corpus.derived_splits)} different texts of each; or "
                f"{_advise(split, corpus)}"
            )
        if missing:
            them = "it is" if len(missing) == 1 else "they are"
            effect = f", so {them} never predicted" if split == "train" else ""
            shown = _join(map(quote, missing), " and {} more labels")
            _log.warning("the %s split has no example with label %s%s", split, shown, effect)


def _join(items: Iterable[str], more: str) -> str:
    """Joins the first items for a message, with the number of the others in `more`."""
    items = list(items)
    others = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (more.format(others) if others > 0 else "")


def _describe(names: Sequence[str], counts: dict[str, list[int]]) -> str:
    """Describes class counts, such as `train has 9 'neg' and 0 'pos', test has …`."""
    return ", ".join(
        f"{split} has "
        + " and ".join(
            f"{n} {quote(name)}" for name, n in zip(names[:_SHOWN], class_counts, strict=False)
        )
        for split, class_counts in counts.items()
    )


def _check_sizes(corpus: Corpus, counts: dict[str, list[int]], config: TrainConfig) -> None:
    sizes = {split: sum(class_counts) for split, class_counts in counts.items()}
    if "test" not in sizes:
        sizes["test"] = corpus.dataset.size("test")
    for split, minimum in (("validation", _MIN_VALIDATION_SIZE), ("test", 1), ("train", 1)):
        if split in sizes and sizes[split] < minimum:
            raise UserError(
                f"{config.dataset} has too few examples: {sizes[split]} of {sum(sizes.values())} "
                f"in the {split} split; {_advise(split, corpus)}, or add examples"
            )


def _advise(split: str, corpus: Corpus) -> str:
    """Suggests how to get more examples into a split."""
    if split in corpus.derived_splits:
        return f"increase --{split}_fraction"
    flags = [f"--{name}_fraction" for name in sorted(corpus.derived_splits) if split == "train"]
    return f"reduce {' or '.join(flags)}" if flags else f"add examples to the {split} split"


def _warn_of_rare_classes(names: Sequence[str], counts: Sequence[int], config: TrainConfig) -> None:
    """Warns of classes with few training examples."""
    total, fraction = sum(counts), _SMALL_FRACTION * 2 / len(names)
    rare = [
        f"{count} ({100 * count / total:.1f}%) with label {quote(name)}"
        for count, name in sorted(zip(counts, names, strict=True))
        if count < _FEW_EXAMPLES or count < fraction * total
    ]
    if rare:
        is_balanced = config.class_weights == "balanced"
        _log.warning(
            "%s: only %s of %d training examples: if these are classes (see --label_column), they "
            "will rarely be predicted, and accuracy hardly measures them; see macro_f1 and "
            "confusion_matrix, and %s",
            *(config.dataset, _join(rare, " and {} more such labels"), total),
            "add examples" if is_balanced else "consider --class_weights=balanced, or add examples",
        )


def _check_words(words: Examples, config: TrainConfig) -> None:
    """Checks that the standardized training texts have tokens; warns if some have none."""
    empty, total = int(np.count_nonzero(words.lengths == 0)), len(words)
    if empty == total:
        dropped = ", or keep punctuation: --punctuation=keep" * (config.punctuation == "drop")
        raise UserError(
            f"--dataset={config.dataset}: none of the {total} texts in the train split has a "
            f"token; name the column of the texts: --text_column (it is {config.text_column} now)"
            f"{dropped}"
        )
    if empty:
        _log.warning(
            "%s: %d of %d texts in the train split have no token; each is read as one "
            "out-of-vocabulary token",
            *(config.dataset, empty, total),
        )


def warn_of_single_tokens(training: Examples, config: TrainConfig) -> None:
    """Warns if most texts of the train split, given as token ids, have only one token."""
    single, total = int(np.count_nonzero(training.lengths == 1)), len(training)
    if 2 * single > total:
        _log.warning(
            "%s: %d of %d texts in the train split (%.0f%%) have one token, and the model can only "
            "memorize them; check --text_column=%s and --sequence_length=%d, and that words are "
            "separated by spaces",
            *(config.dataset, single, total, 100 * single / total),
            *(config.text_column, config.sequence_length),
        )


def check_same_data(
    recorded: Mapping[str, str], corpus: Corpus, splits: Sequence[str], *, run: str
) -> None:
    """Checks that these splits are the same as when a run was started.

    Splits without a recorded fingerprint are not checked. The message names the run as `run`.

    Raises:
        UserError: The data has changed.
    """
    current = corpus.fingerprints(splits)
    changed = [name for name in current if current[name] != recorded.get(name, current[name])]
    if changed:
        raise UserError(
            f"{run} was trained on other data named {corpus.dataset.name}: texts, labels or splits "
            f"in {' and '.join(changed)} have changed since; restore the data, or train on the "
            "new data in another --model_dir"
        )
