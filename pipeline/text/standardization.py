"""Reduces texts to lower-case tokens divided by single spaces."""

from __future__ import annotations

import tensorflow as tf

from pipeline.text.normalization import may_change, normalize

_ENTITIES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&nbsp;": " ", "&amp;": "&"}
_PUNCTUATION = r"!?.…,:;\"()*\-"  # as RE2 writes it inside brackets
_NO_SPACES = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"  # scripts
# What follows a character and is part of its token: the mark of a long Japanese vowel, a letter of
# Khmer or Myanmar that is written below, combining marks.
_ATTACHED = rf"\x{{30FC}}|[\x{{1039}}\x{{17D2}}][{_NO_SPACES}]|\pM"


def standardize(texts: tf.Tensor, *, punctuation: str = "drop") -> tf.Tensor:
    """Reduces texts to lower-case words divided by single spaces.

    HTML tags and entities, control characters and bytes that are not UTF-8 become spaces, as does
    all punctuation but the apostrophe and the slash inside a word: `don't` and a rating of `7/10`
    are one token each. A symbol such as an emoji is a token of its own, and so is each character,
    with its marks, of the scripts that are written without spaces: Han, Hiragana, Katakana, Thai,
    Lao, Khmer, Myanmar. Characters are in one Unicode form; see `normalize`.

    Args:
        texts: <string>[...], UTF-8; other bytes are allowed.
        punctuation: `drop`, or `keep`, by which each of !?.,:;"()*- is a token of its own, and a
            row of dots one token `…`.

    Returns:
        <string>[...], e.g. `It's GOOD!<br />8/10` → `it's good 8/10`, or `it's good ! 8/10`.
    """
    kept = _PUNCTUATION if punctuation == "keep" else ""
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", replacement_char=ord(" "))
    is_marked = may_change(texts)
    texts = normalize(texts, is_marked)
    texts = tf.strings.regex_replace(texts, r"<[/!]?[a-zA-Z][^<>]*>", " ")
    for entity, character in _ENTITIES.items():
        texts = tf.strings.regex_replace(texts, entity, character)
    texts = tf.strings.regex_replace(texts, r"&#?\w+;", " ")
    texts = tf.strings.regex_replace(texts, "[\u2018\u2019\u00b4`]", "'")
    if kept:
        texts = tf.strings.regex_replace(texts, r"\.{2,}", "…")
    texts = tf.strings.regex_replace(texts, rf"[^\pL\pM\pN\p{{So}}'/ {kept}]+", " ")
    capital = texts
    texts = tf.strings.lower(texts, encoding="utf-8")  # not earlier: it ends at a NUL
    # Small letters compose with marks that capital ones do not, such as those of J̌.
    texts = normalize(texts, is_marked & (texts != capital))
    single = rf"[\p{{So}}{kept}]|[{_NO_SPACES}](?:{_ATTACHED})*"
    texts = tf.strings.regex_replace(texts, single, r" \0 ")
    # An apostrophe or slash stays only between two other characters.
    for outside in (r"['/]{2,}", r"(^| )['/]", r"['/]( |$)", r"  +"):
        texts = tf.strings.regex_replace(texts, outside, " ")
    return tf.strings.strip(texts)
