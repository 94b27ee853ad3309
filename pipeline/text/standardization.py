"""Standardizes texts to lower-case tokens separated by single spaces."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from pipeline.text.normalization import change_where, may_change, normalize

_ENTITIES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&nbsp;": " ", "&amp;": "&"}
_PUNCTUATION = r"!?.…,:;\"()*\-"  # in RE2 brackets
# Scripts without spaces between words.
_NO_SPACES = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
# Marks that belong to the token of the character before them: the long vowel mark of Japanese,
# subscript letters of Khmer and Myanmar, combining marks.
_ATTACHED = rf"\x{{30FC}}|[\x{{1039}}\x{{17D2}}][{_NO_SPACES}]|\pM"


@dataclasses.dataclass(frozen=True)
class WordStandardization:
    """The standardization of `Vectorizer`; see `standardize`."""

    punctuation: str

    @property
    def identity(self) -> dict[str, object]:
        """Returns a cache key: everything that the result depends on, except text and code."""
        return {"punctuation": self.punctuation}

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns standardized texts <string>[...] of texts <string>[...]."""
        return standardize(texts, punctuation=self.punctuation)


def standardize(texts: tf.Tensor, *, punctuation: str = "drop") -> tf.Tensor:
    """Standardizes texts to lower-case tokens separated by single spaces.

    HTML tags, control characters and bytes that are not UTF-8 become spaces. The entities in
    _ENTITIES become their characters; other HTML entities become spaces. Punctuation becomes
    spaces, except an apostrophe or slash inside a token: `don't` and `7/10` are one token each.
    Each symbol, such as an emoji, is one token. In scripts without spaces (Han, Hiragana, Katakana,
    Thai, Lao, Khmer, Myanmar), each character with its marks is one token. Characters are in one
    Unicode form; see `normalize`.

    Args:
        texts: <string>[...], UTF-8; other bytes are allowed.
        punctuation: `drop`, or `keep`: each of !?.,:;"()*- is one token, and several dots in a row
            are one token `…`.

    Returns:
        <string>[...], e.g. `It's GOOD!<br />8/10` → `it's good 8/10`, or `it's good ! 8/10`.
    """
    kept = _PUNCTUATION if punctuation == "keep" else ""
    is_ascii = tf.strings.regex_full_match(texts, r"[\x00-\x7f]*")
    texts = change_where(texts, ~is_ascii, _replace_invalid)
    may_need_normalizing = may_change(texts)
    texts = normalize(texts, may_need_normalizing)
    texts = tf.strings.regex_replace(texts, r"<[/!]?[a-zA-Z][^<>]*>", " ")
    for entity, character in _ENTITIES.items():
        texts = tf.strings.regex_replace(texts, entity, character)
    texts = tf.strings.regex_replace(texts, r"&#?\w+;", " ")
    texts = tf.strings.regex_replace(texts, "[\u2018\u2019\u00b4`]", "'")
    if kept:
        texts = tf.strings.regex_replace(texts, r"\.{2,}", "…")
    texts = tf.strings.regex_replace(texts, rf"[^\pL\pM\pN\p{{So}}'/ {kept}]+", " ")
    before_lower = texts
    texts = tf.strings.lower(texts, encoding="utf-8")  # not earlier, since it stops at a NUL
    # Some marks compose only with small letters, such as that of J̌.
    texts = normalize(texts, may_need_normalizing & (texts != before_lower))
    single_character = rf"[\p{{So}}{kept}]|[{_NO_SPACES}](?:{_ATTACHED})*"
    texts = tf.strings.regex_replace(texts, single_character, r" \0 ")
    # Keep an apostrophe or slash only between two other characters.
    for outside in (r"['/]{2,}", r"(^| )['/]", r"['/]( |$)", r"  +"):
        texts = tf.strings.regex_replace(texts, outside, " ")
    return tf.strings.strip(texts)


def _replace_invalid(texts: tf.Tensor) -> tf.Tensor:
    """Replaces bytes that are not UTF-8 by spaces. It takes as long as all other steps together."""
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", replacement_char=ord(" "))
