"""Finds the text and the label among the features of a TFDS data set."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_datasets as tfds

from pipeline.errors import UserError

_SHOWN = 12  # features that a message names


def find_columns(
    builder: tfds.core.DatasetBuilder, text_columns: Sequence[str], label_column: str
) -> tuple[tuple[str, ...], str]:
    """Returns the names of the text features and of the label feature.

    Features with the given names are used. If the data set lacks them and the names are the
    defaults, `text` and `label`, the features come from `supervised_keys`, or they are the only
    text and the only ClassLabel.

    Raises:
        UserError: It is not clear which features are meant, or they have an unusable type.
    """
    types = _scalar_types(builder.info.features)
    keys = builder.info.supervised_keys
    pair = keys if keys and len(keys) == 2 and keys[0] != keys[1] else (None, None)
    classes = [name for name, kind in types.items() if kind == "ClassLabel"]
    (label,) = _choose(builder, "label", (label_column,), pair[1], classes, list(types))
    strings = [name for name, kind in types.items() if kind == "string" and name != label]
    return _choose(builder, "text", tuple(text_columns), pair[0], strings, strings), label


def _scalar_types(features: tfds.features.FeatureConnector) -> dict[str, str]:
    """Returns the type of each feature that can be a text or label: string, int32, …."""
    if not isinstance(features, tfds.features.FeaturesDict):
        return {}
    return {
        name: "ClassLabel" if has_names(feature) else feature.tf_dtype.name
        for name, feature in features.items()
        if isinstance(feature, tfds.features.Tensor) and feature.shape == ()
    }


def has_names(feature: tfds.features.FeatureConnector) -> bool:
    """Returns whether a label feature knows its classes."""
    return isinstance(feature, tfds.features.ClassLabel) and feature.num_classes is not None


def _choose(
    builder: tfds.core.DatasetBuilder,
    kind: str,
    named: tuple[str, ...],
    supervised: object,
    obvious: Sequence[str],
    usable: Sequence[str],
) -> tuple[str, ...]:
    """Returns the named features, else the supervised one, else the only obvious one."""
    if set(named) <= set(usable):
        return named
    if named == (kind,) and (supervised in usable or len(obvious) == 1):
        return (str(supervised) if supervised in usable else obvious[0],)
    features = builder.info.features
    parts = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    listed = [f"{name} ({type(part).__name__})" for name, part in parts.items()]
    rule = "a single value per example" if kind == "label" else "texts, joined by a space"
    example = ",".join(list(obvious or usable)[: 1 if kind == "label" else 2]) or "NAME"
    raise UserError(
        f"{builder.name}: which feature is the {kind}? Name it, --{kind}_column={example} "
        f"({rule}); it has {', '.join(listed[:_SHOWN])}{', …' if len(listed) > _SHOWN else ''}"
    )


def label_strings(labels: tf.Tensor) -> tf.Tensor:
    """Returns labels [N] without names as strings <string>[N]: `4` for 4 and 4.0, `true`."""
    if labels.dtype == tf.string:
        return labels
    names = tf.strings.as_string(labels, shortest=labels.dtype.is_floating)
    return tf.strings.regex_replace(names, r"\.0+$", "")
