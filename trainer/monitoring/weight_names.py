"""Shortens the names of weights so that they fit in the titles of TensorBoard's charts."""

from __future__ import annotations

import re
from collections.abc import Sequence


def short_names(paths: Sequence[str]) -> list[str]:
    """Shortens the paths of a model's weights.

    A short name consists of the scorer (if the model has several), the layer and the weight. Keras
    numbers all layers of a process. Here, layers are numbered within their scorer, so that the
    names do not change when a run is resumed.

    Args:
        paths: Keras' paths, such as `model/neural_scorer/stacked_lstm/lstm_1/lstm_cell/kernel`.

    Returns:
        A unique name for each path, such as `lstm_2/kernel`.
    """
    numbering = _Numbering()
    split_paths = [path.split("/")[1:] for path in paths]
    has_scorers = len({components[0] for components in split_paths if len(components) > 1}) > 1
    names = []
    for *layers, weight in split_paths:
        scorer = layers[:1]
        inner = [layer for layer in layers[1:] if not layer.endswith("_cell")]
        name = [numbering.name("", scorer[0])] if scorer and has_scorers else []
        if inner:
            name.append(numbering.name("/".join(scorer), "/".join(inner)))
        names.append("/".join([*name, weight]))
    are_different = len(set(names)) == len(names)
    return names if are_different else ["/".join(components) for components in split_paths]


class _Numbering:
    """Numbers equal layer names in the order of first use: lstm, lstm_2, lstm_3."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def name(self, scorer: str, path: str) -> str:
        """Returns the name of a layer, with a number if an earlier layer has the same name.

        Args:
            scorer: The scorer of the layer.
            path: The path of the layer within the scorer.
        """
        if (scorer, path) not in self._names:
            name = re.sub(r"_\d+$", "", path.split("/")[-1])
            count = self._counts[scorer, name] = self._counts.get((scorer, name), 0) + 1
            self._names[scorer, path] = name if count == 1 else f"{name}_{count}"
        return self._names[scorer, path]
