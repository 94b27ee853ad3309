"""Splits texts into the words of BERT's basic tokenization, with TensorFlow operations."""

from __future__ import annotations

import dataclasses
import functools
import unicodedata

import numpy as np
import tensorflow as tf

# Ideographs, each of which is a word. Later additions to Unicode are not in BERT's list.
_IDEOGRAPHS = (
    *(range(0x4E00, 0xA000), range(0x3400, 0x4DC0), range(0x20000, 0x2A6E0)),
    *(range(0x2A700, 0x2B740), range(0x2B740, 0x2B820), range(0x2B920, 0x2CEB0)),
    *(range(0xF900, 0xFB00), range(0x2F800, 0x2FA20)),
)
_ASCII_MARKS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"  # some of them are symbols in Unicode
_REPLACEMENT = 0xFFFD  # stands for bytes that are not UTF-8, and is removed
_REMOVED_CATEGORIES = ("Cc", "Cf", "Co", "Cs")  # controls, formats, private use, surrogates
_UNCHANGED_CATEGORIES = ("Cn", "Lo")  # not assigned, and letters without case
_TABLE_END = 0x30000
_REMOVED_START = 0xE0000  # from here on, there are tags, variation selectors and private use


@dataclasses.dataclass(frozen=True)
class BertStandardization:
    """Standardizes texts to the words of BERT's basic tokenization, separated by single spaces.

    Tabs and line ends are spaces; other control characters are removed. Each punctuation mark and
    each ASCII symbol is a word (`BasicTokenizer` in the code of Devlin et al., BERT, NAACL 2019).
    The version of Unicode is that of Python's `unicodedata`.

    Attributes:
        lower_case: Whether letters become lower-case.
        strip_accents: Whether characters are decomposed, and then lose their accents.
        split_ideographs: Whether each ideograph is a word.
    """

    lower_case: bool
    strip_accents: bool
    split_ideographs: bool

    @property
    def identity(self) -> dict[str, object]:
        """Returns a cache key: everything that the words depend on, except text and code."""
        return {
            "bert_standardization": dataclasses.astuple(self),
            "unicode": unicodedata.unidata_version,
        }

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Standardizes texts.

        Args:
            texts: <string>[B], UTF-8. Bytes that are not UTF-8 are removed.

        Returns:
            <string>[B], e.g. `It's  CAFÉ!` → `it ' s cafe !`.
        """
        lengths, characters = _table(self)
        table = tf.RaggedTensor.from_row_lengths(characters, lengths)
        codes = tf.strings.unicode_decode(texts, "UTF-8", replacement_char=_REPLACEMENT)
        values = codes.flat_values
        is_in_table = values < _TABLE_END
        rows = tf.where(is_in_table, values, tf.where(values < _REMOVED_START, _TABLE_END, 0))
        found = tf.gather(table, rows)  # [C, (number of characters)]
        # Row _TABLE_END has one character, which stands for any character beyond the table.
        kept = tf.repeat(values, found.row_lengths())
        replaced = tf.where(found.flat_values == _TABLE_END, kept, found.flat_values)
        words = found.with_flat_values(replaced)
        words = tf.RaggedTensor.from_row_splits(words, codes.row_splits).merge_dims(1, 2)
        words = tf.strings.unicode_encode(words, "UTF-8")
        return tf.strings.strip(tf.strings.regex_replace(words, "  +", " "))


@functools.cache
def _table(words: BertStandardization) -> tuple[np.ndarray, np.ndarray]:
    """Returns what each code point below _TABLE_END becomes, and a last row for later ones.

    Returns:
        The number of characters of each row <int64>[_TABLE_END + 1], and all characters <int32>[M].
    """
    ideographs = frozenset().union(*_IDEOGRAPHS) if words.split_ideographs else frozenset()
    rows = [_map_code(code, words, ideographs) for code in range(_TABLE_END)]
    lengths = np.array([*map(len, rows), 1], np.int64)
    return lengths, np.array([*(ord(c) for row in rows for c in row), _TABLE_END], np.int32)


def _map_code(code: int, words: BertStandardization, ideographs: frozenset[int]) -> str:
    """Returns the characters that a code point becomes."""
    character = chr(code)
    category = unicodedata.category(character)
    if character in "\t\n\r" or category.startswith("Z"):
        return " "
    if category in _REMOVED_CATEGORIES or code == _REPLACEMENT:
        return ""
    characters = f" {character} " if code in ideographs else character
    if category in _UNCHANGED_CATEGORIES and unicodedata.is_normalized("NFD", character):
        return characters  # nine of ten; the rest of this function takes ten times as long
    if words.strip_accents:
        decomposed = unicodedata.normalize("NFD", characters)
        characters = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    if words.lower_case:
        # Of each character, because the small form of a sigma would depend on its neighbours.
        characters = "".join(c.lower() for c in characters)
    return "".join(f" {c} " if _is_mark(c) else c for c in characters)


def _is_mark(character: str) -> bool:
    return character in _ASCII_MARKS or unicodedata.category(character).startswith("P")
