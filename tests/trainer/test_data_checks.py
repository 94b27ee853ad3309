"""Data that cannot be trained on are refused before training."""

import dataclasses

import pytest

from pipeline.errors import UserError
from tests.helpers import FILE_ROWS, config_for_file, write_csv
from trainer.data import check_data, open_corpus


def check(path, cache, **settings):
    config = config_for_file(path, cache, **settings)
    check_data(open_corpus(config), config)


def examples(negative, positive):
    counts = {"neg": negative, "pos": positive}
    return [(f"{label} {n}", label) for label, count in counts.items() for n in range(count)]


def test_three_texts_of_each_class_are_enough(tmp_path):
    check(write_csv(tmp_path / "a.csv", examples(3, 3)), tmp_path / "cache")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((1, 1), "too few examples with label 'neg'"),
        ((3, 2), r"label 'pos': train has .*test has .*least 3 different"),
        ((1000, 2), "too few examples with label 'pos'"),
    ],
)
def test_a_class_missing_in_a_split_is_an_error_with_counts(tmp_path, counts, message):
    with pytest.raises(UserError, match=message):
        check(write_csv(tmp_path / "a.csv", examples(*counts)), tmp_path / "cache")


def test_the_flag_of_the_split_that_lacks_examples_is_named(tmp_path):
    write_csv(tmp_path / "a" / "train.csv", examples(1, 40))
    write_csv(tmp_path / "a" / "test.csv", examples(9, 9))
    with pytest.raises(UserError, match=r"least 2 different.*validation_fraction") as raised:
        check(tmp_path / "a", tmp_path / "cache")
    assert "--test_fraction" not in raised.value.message


def test_a_tiny_validation_split_of_a_named_data_set_has_every_class(small_config):
    config = dataclasses.replace(small_config, validation_fraction=0.001)
    corpus = open_corpus(config)
    check_data(corpus, config)
    assert min(corpus.class_counts()["validation"]) >= 1


def test_a_train_split_of_one_class_is_an_error(tmp_path):
    write_csv(tmp_path / "a" / "train.csv", examples(30, 0))
    write_csv(tmp_path / "a" / "test.csv", examples(9, 9))
    with pytest.raises(UserError, match=r"label 'pos': train has \d+ 'neg' and 0 'pos'"):
        check(tmp_path / "a", tmp_path / "cache")


def test_a_given_split_of_one_class_is_warned_about(tmp_path, caplog):
    write_csv(tmp_path / "a" / "train.csv", FILE_ROWS)
    write_csv(tmp_path / "a" / "test.csv", examples(9, 0))
    check(tmp_path / "a", tmp_path / "cache")
    assert "the test split has no example with label 'pos'" in caplog.text


def test_labels_that_only_the_test_split_has_are_warned_about(tmp_path, caplog):
    write_csv(tmp_path / "a" / "train.csv", FILE_ROWS)
    for others, effect in ((["x"], "'x', so it is"), (["x", "y"], "'x', 'y', so they are")):
        rows = [*examples(9, 9), *((f"a text of {label}", label) for label in others)]
        write_csv(tmp_path / "a" / "test.csv", rows)
        check(tmp_path / "a", tmp_path / "cache")
        assert f"no example with label {effect} never predicted" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(("counts", "warns"), [((300, 300), False), ((600, 12), True)])
def test_imbalance_is_warned_about(tmp_path, caplog, counts, warns):
    path = write_csv(tmp_path / "a.csv", examples(*counts))
    check(path, tmp_path / "cache")
    assert ("(1.9%) with label 'pos' of 378 training examples" in caplog.text) == warns
    assert ("consider --class_weights=balanced" in caplog.text) == warns
    caplog.clear()
    check(path, tmp_path / "cache", class_weights="balanced")
    assert ("training examples" in caplog.text) == warns
    assert "consider" not in caplog.text


def test_findings_in_files_are_logged(tmp_path, caplog):
    caplog.set_level("INFO")
    rows = [(text, {"neg": "Pos", "pos": "pos "}[n], "test", "x") for text, n in FILE_ROWS]
    rows += [("", "Pos", "train", "y"), (FILE_ROWS[0][0], "pos", "train", "z")]
    path = write_csv(tmp_path / "a.csv", rows, ("text", "label", "Fold", "subset"))
    check(path, tmp_path / "cache")
    assert "labels: 0 = Pos, 1 = pos (positive)" in caplog.text
    assert "the labels 'Pos' and 'pos' look alike" in caplog.text
    assert "a column 'Fold' with names of splits" in caplog.text
    assert "--split_column=Fold" in caplog.text
    assert "subset" not in caplog.text
    assert "1 of 122 texts are empty" in caplog.text
    assert "rows with the same text have different labels, for 1 texts" in caplog.text


def test_copies_in_two_splits_are_warned_about_or_dropped(tmp_path, caplog):
    caplog.set_level("INFO")
    write_csv(tmp_path / "a" / "train.csv", FILE_ROWS)
    write_csv(tmp_path / "a" / "test.csv", [*FILE_ROWS[:7], *examples(3, 3)])
    check(tmp_path / "a", tmp_path / "cache")
    assert "in test; to drop them" in caplog.text
    caplog.clear()
    check(tmp_path / "a", tmp_path / "cache", drop_duplicates=True)
    assert "--drop_duplicates dropped 7 examples" in caplog.text
    assert "two splits" not in caplog.text


def test_a_file_whose_name_says_test_can_be_trained_on(tmp_path):
    path = write_csv(tmp_path / "test_drives.csv")
    with pytest.raises(UserError, match=r"no row in the train split.*splits_from_names=false"):
        check(path, tmp_path / "cache")
    check(path, tmp_path / "cache", splits_from_names=False)
