"""Shortens the names of weights so that they fit in the titles of TensorBoard's charts."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence


def short_names(paths: Sequence[str]) -> list[str]:
    """Shortens the paths of a model's weights to unique names, such as `lstm_2/kernel`.

    A path is `model/neural_scorer/stacked_lstm/lstm_1/lstm_cell/kernel`. A short name consists of
    the scorer (if the model has several), the layer and the weight. Keras numbers all layers of a
    process. Here, layers are numbered within their scorer, so that the names do not change when a
    run is resumed.
    """
    same_names: dict[tuple[str, str], list[str]] = collections.defaultdict(list)

    def number(scorer: str, path: str) -> str:
        """Numbers the layers of a scorer that have one name: lstm, lstm_2, lstm_3."""
        name = re.sub(r"_\d+$", "", path.split("/")[-1])
        same = same_names[scorer, name]  # in the order of first use
        if path not in same:
            same.append(path)
        position = same.index(path)
        return f"{name}_{position + 1}" if position else name

    split_paths = [path.split("/")[1:] for path in paths]
    has_scorers = len({components[0] for components in split_paths if len(components) > 1}) > 1
    names = []
    for *layers, weight in split_paths:
        scorer = layers[:1]
        inner = [layer for layer in layers[1:] if not layer.endswith("_cell")]
        name = [number("", scorer[0])] if scorer and has_scorers else []
        if inner:
            name.append(number("/".join(scorer), "/".join(inner)))
        names.append("/".join([*name, weight]))
    are_different = len(set(names)) == len(names)
    return names if are_different else ["/".join(components) for components in split_paths]
