"""Labels in pictures are drawn without warnings and without markup."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.monitoring.fonts import make_drawable
from trainer.monitoring.summaries import draw_confusion_matrix


@pytest.mark.parametrize(
    "names",
    [
        ("neg", "pos"),
        ("\u8d1f\u9762", "\u6b63\u9762"),
        ("a\nb", "$x$ \\frac"),
        ("\U00013000", "x" * 400),
    ],
)
def test_any_labels_are_drawn_without_a_warning(names):
    labels, predicted = np.array([True, False]), np.array([True, True])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw_confusion_matrix(labels, predicted, names).shape[-1] == 4


@settings(max_examples=50)
@given(st.text())
def test_any_text_becomes_one_short_line(text):
    drawn, _ = make_drawable(text)
    assert len(drawn) <= 20
    assert drawn.isprintable()
