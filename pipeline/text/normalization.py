"""Unicode normalization with TensorFlow operations, so that an exported model includes it."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_CODES_END = 0x30000  # later characters have no decomposition and are not combining marks
_WIDTH_FORMS = range(0xFF01, 0xFFEF)
# Characters without width: soft hyphen, joiners, direction marks, byte order mark, variation
# selectors. U+200B is not here because it separates words.
_INVISIBLE = (
    0x00AD,
    0x034F,
    0x061C,
    *range(0x200C, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFE00, 0xFE10),
    0xFEFF,
)
# Hangul is composed by arithmetic (The Unicode Standard, section 3.12).
_SYLLABLES, _LEADS, _VOWELS, _TAILS = 0xAC00, 0x1100, 0x1161, 0x11A7
_LEAD_COUNT, _VOWEL_COUNT, _TAIL_COUNT = 19, 21, 28
_PAIR = 1 << 21  # code points have 21 bits


class _Tables(NamedTuple):
    """Unicode data in arrays; the keys of each table are sorted."""

    pattern: str  # a regular expression for texts that normalization may change
    decomposed: np.ndarray  # <int32>[D], code points with a decomposition
    starts: np.ndarray  # <int32>[D + 1], where each starts in `characters`, and the end
    characters: np.ndarray  # <int32>[P], the decompositions, concatenated
    marks: np.ndarray  # <int32>[M], code points with a combining class
    classes: np.ndarray  # <int32>[M], the combining classes of `marks`
    pairs: np.ndarray  # <int64>[C], pairs with a composite: first code point x 2^21 + second
    composites: np.ndarray  # <int32>[C], the composites of `pairs`


def may_change(texts: tf.Tensor) -> tf.Tensor:
    """Returns a mask <bool>[...] of the texts <string>[...] that `normalize` may change."""
    return tf.strings.regex_full_match(texts, _tables().pattern)


def normalize(texts: tf.Tensor, where: tf.Tensor) -> tf.Tensor:
    """Normalizes texts to Unicode's form C (NFC), so that equivalent texts are equal.

    There are two differences from NFC. Full-width and half-width forms become the usual characters,
    as in NFKC: U+FF27 becomes `G`. Soft hyphens, joiners, variation selectors and other invisible
    characters are removed. The Unicode version is that of Python's `unicodedata`.

    Args:
        texts: <string>[...], valid UTF-8.
        where: <bool>[...], a mask of the texts to normalize. It must be false where `may_change` is
            false. Texts outside the mask cost no time.

    Returns:
        <string>[...].
    """
    return change_where(texts, where, _normalize)


def change_where(
    texts: tf.Tensor, where: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Applies a function to some texts only, which saves its time for all others.

    Args:
        texts: <string>[...].
        where: <bool>[...], a mask of the texts to change.
        change: Returns new texts <string>[B] of the texts <string>[B] in the mask.

    Returns:
        <string>[...].
    """

    def changed() -> tf.Tensor:
        flat, rows = tf.reshape(texts, [-1]), tf.where(tf.reshape(where, [-1]))
        new = change(tf.gather_nd(flat, rows))
        return tf.reshape(tf.tensor_scatter_nd_update(flat, rows, new), tf.shape(texts))

    return tf.cond(tf.reduce_any(where), changed, lambda: texts)


# A tf.function, so that its 800 operations are traced only once. Tracing them takes 0.4 s.
@tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
def _normalize(texts: tf.Tensor) -> tf.Tensor:
    """Normalizes texts <string>[B]."""
    return _compose(_decompose(texts))


def _decompose(texts: tf.Tensor) -> tf.RaggedTensor:
    """Decomposes texts <string>[B] to code points <int32>[B, (T)] in canonical order."""
    tables = _tables()
    codes = tf.strings.unicode_decode(texts, "UTF-8")
    position, is_found = _look_up(codes.flat_values, tables.decomposed)
    starts = tf.constant(tables.starts)
    lengths = tf.where(is_found, tf.gather(starts, position + 1) - tf.gather(starts, position), 1)
    ends = tf.cumsum(lengths)
    source = tf.repeat(tf.range(tf.size(lengths)), lengths)  # code point of each character
    offset = tf.range(tf.size(source)) - tf.gather(ends - lengths, source)
    index = tf.gather(starts, tf.gather(position, source)) + offset
    characters = tf.constant(tables.characters)
    values = tf.where(
        tf.gather(is_found, source),
        tf.gather(characters, tf.minimum(index, len(tables.characters) - 1)),
        tf.gather(codes.flat_values, source),
    )
    rows = tf.gather(tf.cast(codes.value_rowids(), tf.int32), source)
    values = _in_canonical_order(values, rows)
    return tf.RaggedTensor.from_value_rowids(values, rows, codes.nrows(tf.int32), validate=False)


def _in_canonical_order(codes: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Sorts each run of marks in code points <int32>[N] by combining class, stably."""
    classes = _combining_classes(codes)
    is_wrong = (classes[:-1] > classes[1:]) & (classes[1:] > 0) & (rows[:-1] == rows[1:])

    def ordered() -> tf.Tensor:
        # A run of marks follows its base character. The position makes keys unique.
        run = tf.cumsum(tf.cast((classes == 0) | _is_first(rows), tf.int64))
        position = tf.range(tf.size(codes, tf.int64))
        key = (run * 256 + tf.cast(classes, tf.int64)) * tf.size(codes, tf.int64) + position
        return tf.gather(codes, tf.argsort(key))

    return tf.cond(tf.reduce_any(is_wrong), ordered, lambda: codes)


def _compose(codes: tf.RaggedTensor) -> tf.Tensor:
    """Composes decomposed code points <int32>[B, (T)] to texts <string>[B]."""
    count = codes.nrows(tf.int32)
    values, rows = codes.flat_values, tf.cast(codes.value_rowids(), tf.int32)
    any_length = tf.TensorShape([None])
    values, rows, _ = tf.while_loop(
        lambda *loop: loop[-1],
        _compose_once,
        (values, rows, tf.constant(True)),
        shape_invariants=(any_length, any_length, tf.TensorShape([])),
    )
    codes = tf.RaggedTensor.from_value_rowids(values, rows, count, validate=False)
    return tf.strings.unicode_encode(codes, "UTF-8")


def _compose_once(
    codes: tf.Tensor, rows: tf.Tensor, is_changed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Composes each starter (of class 0) with the first mark that fits; returns whether any did."""
    del is_changed
    classes = _combining_classes(codes)
    is_starter = classes == 0
    starters = tf.cast(tf.where(is_starter)[:, 0], tf.int32)
    count_before = tf.cumsum(tf.cast(is_starter, tf.int32), exclusive=True)
    # Marks without a starter get the first code point of the batch, which is in another row or is
    # the mark itself; `is_free` excludes both.
    starter = tf.gather(tf.concat([[0], starters], axis=0), count_before)
    before = tf.concat([[0], classes[:-1]], axis=0)
    position = tf.range(tf.size(codes))
    # A mark is free if no character between it and its starter prevents their composition.
    is_free = (position - 1 == starter) | ((before > 0) & (before < classes))
    is_free &= (tf.gather(rows, starter) == rows) & tf.gather(is_starter, starter)
    is_free &= (position > starter) & (codes >= 0x300)  # no pair has a smaller second code point
    free = tf.cast(tf.where(is_free)[:, 0], tf.int32)
    composites = _composites(tf.gather(codes, tf.gather(starter, free)), tf.gather(codes, free))
    is_pair = composites > 0
    free, composites = tf.boolean_mask(free, is_pair), tf.boolean_mask(composites, is_pair)
    is_first = _is_first(tf.gather(starter, free))
    free, composites = tf.boolean_mask(free, is_first), tf.boolean_mask(composites, is_first)
    changed = tf.gather(starter, free)[:, tf.newaxis]
    codes = tf.tensor_scatter_nd_update(codes, changed, composites)
    removed = tf.fill(tf.shape(free), False)
    is_kept = tf.tensor_scatter_nd_update(
        tf.fill(tf.shape(codes), True), free[:, tf.newaxis], removed
    )
    codes, rows = tf.boolean_mask(codes, is_kept), tf.boolean_mask(rows, is_kept)
    return codes, rows, tf.size(free) > 0


def _composites(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Returns the composites <int32>[N] of pairs of code points <int32>[N], or 0."""
    tables = _tables()
    pair = tf.cast(first, tf.int64) * _PAIR + tf.cast(second, tf.int64)
    position, is_found = _look_up(pair, tables.pairs)
    composites = tf.where(is_found, tf.gather(tf.constant(tables.composites), position), 0)
    lead, vowel, tail = first - _LEADS, second - _VOWELS, second - _TAILS
    is_two = (lead >= 0) & (lead < _LEAD_COUNT) & (vowel >= 0) & (vowel < _VOWEL_COUNT)
    two = _SYLLABLES + (lead * _VOWEL_COUNT + vowel) * _TAIL_COUNT
    syllable, count = first - _SYLLABLES, _LEAD_COUNT * _VOWEL_COUNT * _TAIL_COUNT
    is_three = (syllable >= 0) & (syllable < count) & (syllable % _TAIL_COUNT == 0)
    is_three &= (tail > 0) & (tail < _TAIL_COUNT)
    return tf.where(is_two, two, tf.where(is_three, first + tail, composites))


def _combining_classes(codes: tf.Tensor) -> tf.Tensor:
    """Returns the canonical combining class <int32>[N] of code points <int32>[N]."""
    tables = _tables()
    position, is_found = _look_up(codes, tables.marks)
    return tf.where(is_found, tf.gather(tf.constant(tables.classes), position), 0)


def _look_up(values: tf.Tensor, keys: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """Looks up values [N] in sorted keys [K]. Returns positions <int32>[N] and a mask of hits."""
    position = tf.minimum(tf.searchsorted(tf.constant(keys), values), len(keys) - 1)
    return position, tf.gather(tf.constant(keys), position) == values


def _is_first(numbers: tf.Tensor) -> tf.Tensor:
    """Returns a mask <bool>[N] of the first of each run of equal numbers [N]."""
    return tf.concat(
        [tf.fill([tf.minimum(tf.size(numbers), 1)], True), numbers[1:] != numbers[:-1]], axis=0
    )


@functools.cache
def _tables() -> _Tables:
    """Builds the tables from Python's `unicodedata`."""
    decompositions: dict[int, str] = dict.fromkeys(_INVISIBLE, "")
    pairs: dict[int, int] = {}
    classes: dict[int, int] = {}
    for code in itertools.chain(
        range(_SYLLABLES), range(0xD7A4, 0xD800), range(0xE000, _CODES_END)
    ):
        character = chr(code)
        if combining := unicodedata.combining(character):
            classes[code] = combining
        mapping = unicodedata.decomposition(character)
        if code in _WIDTH_FORMS:
            usual = unicodedata.normalize("NFKD", character)
            if usual != character and " " not in usual:
                decompositions[code] = usual
        elif mapping and not mapping.startswith("<"):
            decompositions[code] = unicodedata.normalize("NFD", character)
            if unicodedata.normalize("NFC", character) == character:
                first, second = (int(number, 16) for number in mapping.split())
                pairs[first * _PAIR + second] = code
    decompositions = dict(sorted(decompositions.items()))
    pairs = dict(sorted(pairs.items()))
    lengths = [len(characters) for characters in decompositions.values()]
    return _Tables(
        pattern=_pattern(decompositions, classes, pairs),
        decomposed=np.array(list(decompositions), np.int32),
        starts=np.cumsum([0, *lengths]).astype(np.int32),
        characters=np.array([ord(c) for c in "".join(decompositions.values())], np.int32),
        marks=np.array(list(classes), np.int32),
        classes=np.array(list(classes.values()), np.int32),
        pairs=np.array(list(pairs), np.int64),
        composites=np.array(list(pairs.values()), np.int32),
    )


def _pattern(decompositions: dict[int, str], classes: dict[int, int], pairs: dict[int, int]) -> str:
    """Returns a pattern of texts with a character that `normalize` may change."""
    hangul = {*range(_VOWELS, _VOWELS + _VOWEL_COUNT), *range(_TAILS + 1, _TAILS + _TAIL_COUNT)}
    composites = set(pairs.values())
    changing = {code for code in decompositions if code not in composites}
    seconds = {pair % _PAIR for pair in pairs}
    codes = np.array(sorted(changing | seconds | set(classes) | hangul))
    runs = np.split(codes, np.flatnonzero(np.diff(codes) > 1) + 1)  # of consecutive numbers
    return "(?s).*[" + "".join(rf"\x{{{run[0]:X}}}-\x{{{run[-1]:X}}}" for run in runs) + "].*"
