"""Names of weights that are short enough for the titles of TensorBoard's charts."""

from __future__ import annotations

import re
from collections.abc import Sequence


def short_names(paths: Sequence[str]) -> list[str]:
    """Shortens the paths of a model's weights.

    A name consists of the part of the model (if it has several), the layer and the weight.
    Keras numbers layers within a process; here they are numbered within their part, so that a run
    has the same names in each process.

    Args:
        paths: Keras' paths, such as `model/deep_scores/stacked_lstm/lstm_1/lstm_cell/kernel`.

    Returns:
        A name for each, all different, such as `lstm_2/kernel`.
    """
    layers = _Numbers()
    split = [path.split("/")[1:] for path in paths]
    has_parts = len({folders[0] for folders in split if len(folders) > 1}) > 1
    names = []
    for *folders, weight in split:
        part = folders[:1]
        inner = [folder for folder in folders[1:] if not folder.endswith("_cell")]
        name = [layers.name("", part[0])] if part and has_parts else []
        if inner:
            name.append(layers.name("/".join(part), "/".join(inner)))
        names.append("/".join([*name, weight]))
    return names if len(set(names)) == len(names) else ["/".join(folders) for folders in split]


class _Numbers:
    """Numbers equal names in the order of first use: lstm, lstm_2, lstm_3."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def name(self, within: str, path: str) -> str:
        """Returns the last name of a path, with a number if another path there ends in it too."""
        if (within, path) not in self._names:
            plain = re.sub(r"_\d+$", "", path.split("/")[-1])
            count = self._counts[within, plain] = self._counts.get((within, plain), 0) + 1
            self._names[within, path] = plain if count == 1 else f"{plain}_{count}"
        return self._names[within, path]
