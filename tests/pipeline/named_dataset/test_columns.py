"""Which features of a TFDS data set are the text and the label."""

import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from pipeline.errors import UserError
from pipeline.named_dataset.columns import find_columns

TEXT, LABEL = tfds.features.Text(), tfds.features.ClassLabel(names=["world", "sports"])
LABELS, VECTOR = tfds.features.Sequence(LABEL), tfds.features.Tensor(shape=(2,), dtype=np.int32)
TRANSLATION = tfds.features.Translation(["de", "en"])


def find(features, keys=None, texts=("text",), label="label"):
    features = tfds.features.FeaturesDict(features)
    info = types.SimpleNamespace(features=features, supervised_keys=keys)
    return find_columns(types.SimpleNamespace(name="form", info=info), texts, label)


@pytest.mark.parametrize(
    ("features", "arguments", "expected"),
    [
        ({"text": TEXT, "label": LABEL}, {}, "text label"),
        ({"sentence": TEXT, "label": LABEL, "idx": np.int32}, {}, "sentence label"),
        ({"body": TEXT, "kind": LABEL}, {}, "body kind"),
        ({"a": TEXT, "b": TEXT, "n": np.int32}, {"keys": ("b", "n")}, "b n"),
        ({"a": TEXT, "b": TEXT}, {"keys": ("a", "b")}, "a b"),
        ({"text": TEXT, "body": TEXT, "n": LABEL}, {"keys": ("body", "n")}, "text n"),
        ({"a": TEXT, "b": TEXT, "c": LABEL}, {"texts": ("b", "a")}, "b a c"),
        ({"text": TEXT, "x": LABEL, "y": np.bool_}, {"label": "y"}, "text y"),
        ({"text": TEXT, "label": TEXT}, {}, "text label"),
        ({"text": TEXT, "label": LABELS, "first": LABEL}, {}, "text first"),
    ],
)
def test_the_columns_are_found(features, arguments, expected):
    texts, label = find(features, **arguments)
    assert [*texts, label] == expected.split()


@pytest.mark.parametrize(
    ("features", "arguments", "message"),
    [
        ({"a": TEXT, "b": TEXT, "label": LABEL}, {}, r"text\? .*text_column=a,b .*label \(Class"),
        ({"text": TEXT, "label": LABEL}, {"texts": ("body",)}, r"text\? .*text_column=text "),
        ({"text": TEXT, "label": LABEL}, {"label": "x"}, r"label\? .*label_column=label "),
        ({"text": TEXT, "joy": np.bool_, "anger": np.bool_}, {}, r"label\? .*joy \(Tensor\)"),
        ({"text": TEXT, "label": LABELS}, {}, r"label\? .*single value.*label \(Sequence\)"),
        ({"text": TEXT, "other": TEXT}, {"keys": ("text", "text")}, r"label\? "),
        ({"translation": TRANSLATION}, {}, r"label\? .*translation \(Translation\)"),
        ({"image": VECTOR, "label": LABEL}, {}, r"text\? .*=NAME"),
    ],
)
def test_an_unclear_column_is_a_user_error(features, arguments, message):
    with pytest.raises(UserError, match=f"form: which feature is the {message}"):
        find(features, **arguments)
