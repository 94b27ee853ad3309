"""Fields of TrainConfig: how a setting is defined, and how its value is checked."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipeline.errors import UserError, quote, shorten


def setting(
    default: Any,  # noqa: ANN401 a setting may be of any flag type
    help: str,
    *,
    between: tuple[float, float] | None = None,
    minimum: float | None = None,
    choices: tuple[str, ...] | None = None,
    may_change: bool = False,
) -> Any:  # noqa: ANN401 the type of the field
    """Returns the field of one setting.

    `between` has the smallest and the largest value, `minimum` only the smallest. `may_change` is
    for a resumed run.
    """
    smallest, largest = between or (minimum, None)
    metadata = {"minimum": smallest, "maximum": largest, "choices": choices, "help": help}
    return dataclasses.field(default=default, metadata=metadata | {"may_change": may_change})


def check_value(field: dataclasses.Field[Any], value: object) -> None:
    """Checks a value against the type, the choices and the range of its field."""
    expected = type(field.default)
    if type(value) is not expected and not (expected is float and type(value) is int):
        raise UserError(f"--{field.name}={quote(value)} is not of type {expected.__name__}")
    choices, minimum, maximum = (field.metadata[k] for k in ("choices", "minimum", "maximum"))
    if choices and value not in choices:
        raise UserError(
            f"--{field.name}={shorten(str(value))} is unknown; choose {' or '.join(choices)}"
        )
    too_small = minimum is not None and not value >= minimum  # `not`: also refuses NaN
    too_large = maximum is not None and not value <= maximum
    if too_small or too_large:
        bounds = f"at least {minimum}" + (f" and at most {maximum}" if maximum is not None else "")
        raise UserError(f"--{field.name}={value} is out of range; it must be {bounds}")
