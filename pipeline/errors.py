"""The two ways in which a command can fail, told to people in one line each."""

_LIMIT = 80


class Mistake(Exception):
    """What the user typed cannot be done; the message says what to type instead. Exit code 1."""


class Fault(Exception):
    """Data, disk or numbers are broken; the message says where. Exit code 2."""


def shown(value: object) -> str:
    """Quotes a value for a message.

    Args:
        value: A string gets quotes. Bytes are decoded as UTF-8 first. Any other value is shown by
            `repr`.

    Returns:
        At most 80 characters of it, with … where it is cut. Control characters and other
        characters that do not print are escaped.
    """
    if isinstance(value, bytes):
        value = value[: 4 * _LIMIT + 4].decode(errors="backslashreplace")
    if not isinstance(value, str):
        return cut(escaped(repr(value)))
    # Cut before escaping, since a value may have megabytes; the end quote is always there.
    return f"'{cut(escaped(value[: _LIMIT + 1]))}'"


def escaped(text: str) -> str:
    r"""Writes characters that do not print as Python does: a line break is `\n`."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cut(text: str, limit: int = _LIMIT) -> str:
    """Shortens a text to a number of characters, with … at the end where it is cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
