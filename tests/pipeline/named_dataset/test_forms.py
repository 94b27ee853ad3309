"""TFDS data sets of many forms: features, labels and splits."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from pipeline.errors import UserError
from pipeline.named_dataset.dataset import open_dataset
from trainer.config import TrainConfig
from trainer.data import check_data, make_corpus, make_tokenizer

TEXT, TWO = tfds.features.Text(), tfds.features.ClassLabel(names=["bad", "good"])
THREE = tfds.features.ClassLabel(names=["world", "sports", "business"])
DEFAULT = {"text": TEXT, "label": TWO}


@pytest.fixture
def open_form(tmp_path, monkeypatch):
    """Opens a data set: open_form(features, {split: rows}, ...); a row has a value per feature."""

    def open_form(features, data, **options):
        class Form(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            name = "form"
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                of = tfds.features.FeaturesDict(features)
                return tfds.core.DatasetInfo(builder=self, features=of)

            def _split_generators(self, _):
                return {split: self._generate_examples(split) for split in data}

            def _generate_examples(self, split):
                for number, row in enumerate(data[split]):
                    yield number, dict(zip(features, row, strict=True))

        monkeypatch.setattr(tfds, "builder", lambda _, data_dir: Form(data_dir=data_dir))
        return open_dataset("form", data_dir=str(tmp_path), download=True, **options)

    return open_form


def rows(labels, word="text"):
    return [(f"{word} {number}", label) for number, label in enumerate(labels)]


def read(dataset, split):
    """Returns the pairs of text and label of a split, sorted: TFDS shuffles when it prepares."""
    pairs = dataset.read(split).unbatch().as_numpy_iterator()
    return sorted((text.decode(), int(label)) for text, label in pairs)


def test_texts_are_joined_by_a_space(open_form):
    features = {"title": TEXT, "body": TEXT, "label": TWO}
    data = {"train": [("A", "b c", 1), ("D", "", 0)]}
    dataset = open_form(features, data, text_columns=["title", "body"])
    assert read(dataset, "train") == [("A b c", 1), ("D ", 0)]


@pytest.mark.parametrize(
    ("feature", "stored", "names", "numbers"),
    [
        (THREE, [2, 0, -1], ("world", "sports", "business"), [2, 0, -1]),
        (np.int32, [4, 0, 0], ("0", "4"), [1, 0, 0]),
        (np.int64, [-1, 1, 10], ("-1", "1", "10"), [0, 1, 2]),
        (np.float32, [5.0, 1.0, 2.5], ("1", "2.5", "5"), [2, 0, 1]),
        (np.bool_, [True, False, True], ("false", "true"), [1, 0, 1]),
        (TEXT, ["spam", "", "ham"], ("ham", "spam"), [1, -1, 0]),
    ],
)
def test_labels_are_numbered(open_form, feature, stored, names, numbers):
    dataset = open_form({"text": TEXT, "label": feature}, {"train": rows(stored)})
    assert dataset.label_names == names
    assert [label for _, label in read(dataset, "train")] == numbers


def test_a_label_that_train_does_not_have_is_dropped_and_counted(open_form, project_log):
    splits = {"train": rows([0, 4] * 30), "test": rows([0, 2, 4, 2], "other")}
    corpus = make_corpus(SETTINGS, open_form({"text": TEXT, "label": np.int32}, splits))
    assert texts_of(corpus, "test") == {"other 0", "other 2"}
    tokenizer = make_tokenizer(corpus.vocabulary(), SETTINGS)
    assert len(corpus.examples("test", tokenizer)) == 2
    assert "dropped 2 of 4 examples of the test split" in project_log.text
    (position,) = np.flatnonzero(corpus.words("test").labels == 1)
    assert corpus.original_texts("test", np.array([position])) == [b"other 2"]


@pytest.mark.parametrize(
    ("feature", "stored", "message"),
    [
        (np.float32, np.arange(1001) / 7, "has more than 1000 labels"),
        (np.int32, range(1001), "has more than 1000 labels"),
        (TEXT, ["a", "a"], r"has 1 label.*'a'"),
        (tfds.features.ClassLabel(num_classes=1001), [0], "more than 1000 labels"),
    ],
)
def test_unusable_labels_are_a_user_error(open_form, feature, stored, message):
    with pytest.raises(UserError, match=f"{message}.*label_column="):
        open_form({"text": TEXT, "label": feature}, {"train": rows(stored)})


def test_labels_are_renamed_and_merged(open_form):
    splits = {"train": rows([0, 1, 2])}
    features = {"text": TEXT, "label": THREE}
    merged = open_form(features, splits, label_map={"world": "news", "business": "news"})
    assert merged.label_names == ("news", "sports")
    assert [label for _, label in read(merged, "train")] == [0, 1, 0]
    assert merged.identity != open_form(features, splits).identity
    with pytest.raises(
        UserError, match=r"label_map names 'art', but the labels of form are .*'world'"
    ):
        open_form(features, splits, label_map={"art": "news"})


def test_renamed_values_are_sorted_by_their_new_names(open_form):
    splits = {"train": rows([0, 1, 2])}
    features = {"text": TEXT, "label": np.int32}
    dataset = open_form(features, splits, label_map={"0": "spam", "1": "ham", "2": "ham"})
    assert dataset.label_names == ("ham", "spam")
    assert [label for _, label in read(dataset, "train")] == [1, 0, 0]


def test_the_positive_label_is_for_two_labels(open_form):
    splits = {"train": rows([0, 1, -1])}
    dataset = open_form(DEFAULT, splits, positive_label="bad")
    assert dataset.label_names == ("good", "bad")
    assert [label for _, label in read(dataset, "train")] == [1, 0, -1]
    with pytest.raises(UserError, match=r"positive_label='world' is for two labels.* has 3"):
        open_form({"text": TEXT, "label": THREE}, splits, positive_label="world")


def test_labels_of_a_run_keep_their_order(open_form):
    splits = {"train": rows([0, 1])}
    dataset = open_form(DEFAULT, splits, label_names=["good", "bad"])
    assert [label for _, label in read(dataset, "train")] == [1, 0]
    with pytest.raises(UserError, match="labels 'bad', 'good', but the run was trained on 'a'"):
        open_form(DEFAULT, splits, label_names=["a", "b"])


# Splits

LABELS = [0, 1] * 50
ALL = {s: rows(LABELS, s) for s in ("train", "validation", "test")}
UNLABELLED = {"test": rows([-1] * 4)}
SETTINGS = TrainConfig(cache_dir="", vocab_size=500)


@pytest.mark.parametrize(
    ("splits", "requested", "expected"),
    [
        (ALL, {}, {"train": "train", "validation": "validation", "test": "test"}),
        ({"train": LABELS}, {}, {"train": "train"}),
        ({"train": LABELS, "dev": LABELS}, {}, {"train": "train", "test": "dev"}),
        (ALL | UNLABELLED, {}, {"train": "train", "test": "validation"}),
        ({"train": LABELS} | UNLABELLED, {}, {"train": "train"}),
        (
            ALL | {"unsupervised": rows([-1])},
            {},
            {s: s for s in ("train", "validation", "test", "unsupervised")},
        ),
        (
            ALL,
            {"train": "train[:80%]", "validation": "train[80%:]"},
            {"train": "train[:80%]", "validation": "train[80%:]", "test": "test"},
        ),
        (ALL, {"train": "train+validation"}, {"train": "train+validation", "test": "test"}),
        (ALL | UNLABELLED, {"train": "train+validation"}, {"train": "train+validation"}),
        (
            ALL | UNLABELLED,
            {"validation": "validation[:50%]"},
            {"train": "train", "validation": "validation[:50%]"},
        ),
    ],
)
def test_each_split_has_a_source(open_form, splits, requested, expected):
    splits = {s: rows(of, s) if of is LABELS else of for s, of in splits.items()}
    dataset = open_form(DEFAULT, splits, splits=requested)
    assert dataset.sources == expected
    assert {s: len(read(dataset, s)) for s in expected} == {s: dataset.size(s) for s in expected}


@pytest.mark.parametrize(
    ("splits", "requested", "message"),
    [
        (ALL, {"train": "trian"}, r"train_split=trian is not a split .*train, validation, test"),
        (ALL, {"test": "test[:"}, r"test_split=test\[: is not a split"),
        (ALL | UNLABELLED, {"test": "test"}, "split test of form has no labels.*test_split"),
        ({"test": rows(LABELS)}, {}, "train_split=train is not a split of form, which has test"),
    ],
)
@pytest.mark.parametrize("feature", [TWO, np.int32])
def test_an_unusable_split_is_a_user_error(open_form, splits, requested, message, feature):
    with pytest.raises(UserError, match=message):
        open_form({"text": TEXT, "label": feature}, splits, splits=requested)


def texts_of(corpus, split):
    positions = np.arange(len(corpus.words(split)))
    return {text.decode() for text in corpus.original_texts(split, positions)}


@pytest.mark.parametrize("classes", [2, 20])
def test_missing_splits_are_taken_from_train(open_form, project_log, classes):
    """Copies of a text are in one split, and each split has every class."""
    label = tfds.features.ClassLabel(num_classes=classes)
    texts = [(f"text {n} of {c}", c) for n in range(6) for c in range(classes)] * 2
    dataset = open_form({"text": TEXT, "label": label}, {"train": texts})
    corpus = make_corpus(SETTINGS, dataset)
    assert corpus.derived_splits == {"validation", "test"}
    project_log.set_level("INFO", logger="pipeline")
    check_data(corpus, SETTINGS)
    assert "validation: taken from train, test: taken from train" in project_log.text
    parts = [texts_of(corpus, split) for split in ("train", "validation", "test")]
    assert set.union(*parts) == {text for text, _ in texts}
    assert sum(map(len, parts)) == len(texts) / 2
    counts = corpus.class_counts()
    assert set(counts) == {"train", "validation", "test"}
    assert min(map(min, counts.values())) > 0
    tokenizer = make_tokenizer(corpus.vocabulary(), SETTINGS)
    assert sum(len(corpus.examples(split, tokenizer)) for split in counts) == len(texts)


def test_unlabelled_texts_of_an_evaluated_split_are_dropped(open_form):
    texts = rows(LABELS)
    splits = {"train": texts, "unsupervised": [(text, -1) for text, _ in texts]}
    corpus = make_corpus(SETTINGS, open_form(DEFAULT, splits))
    tokenizer = make_tokenizer(corpus.vocabulary(), SETTINGS)
    unlabelled, train = corpus.unlabelled(tokenizer), corpus.examples("train", tokenizer)
    assert sorted(unlabelled.hash_buckets) == sorted(train.hash_buckets)
