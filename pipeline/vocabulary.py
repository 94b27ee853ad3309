"""From text to token ids: the standardization, the vocabulary, and the file that holds it."""

from __future__ import annotations

import collections
import hashlib
import heapq
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from pipeline.errors import Fault, Mistake
from pipeline.normalization import may_change, normalize

PADDING_ID = 0
UNKNOWN_ID = 1
FIRST_WORD_ID = 2  # the id of the token on line 1 of vocabulary.txt
_UNKNOWN = "[UNK]"  # TextVectorization's own word of id 1; standardized texts have no brackets

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


class Vectorizer:
    """Turns texts into token ids, the same way in training, prediction and export.

    Attributes:
        words: The vocabulary; `words[i]` has id `i + FIRST_WORD_ID`.
        vocabulary_size: Number of ids: the words, padding and unknown.
        layer: The TextVectorization layer, which an export has to track.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        sequence_length: int,
        truncate: str,
        punctuation: str = "drop",
    ) -> None:
        self.words = list(words)
        self.vocabulary_size = len(self.words) + FIRST_WORD_ID
        self.layer = keras.layers.TextVectorization(
            vocabulary=self.words, standardize=None, ragged=True
        )
        self._sequence_length = sequence_length
        self._truncate = truncate
        self._punctuation = punctuation

    @property
    def identity(self) -> list[object]:
        """All that its answers depend on, the code apart."""
        return [
            fingerprint(self.words),
            self._sequence_length,
            self._truncate,
            self._punctuation,
        ]

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Vectorizes a batch of texts <string>[B]; see `look_up` for what it returns."""
        return self.look_up(standardize(texts, punctuation=self._punctuation))

    def read_of(self, text: bytes) -> list[str]:
        """Returns the standardized words of a text that its token ids stand for, one each."""
        standard = standardize(tf.constant(text), punctuation=self._punctuation)
        words = standard.numpy().decode().split(" ")  # of no words: one that is empty
        length = self._sequence_length
        return words[:length] if self._truncate == "head" else words[-length:]

    def look_up(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Vectorizes a batch of texts that are standardized already.

        Args:
            texts: <string>[B].

        Returns:
            Ragged <int32>[B, (T)], 1 ≤ T ≤ sequence_length. A text without words is one unknown
            token, so that no row is empty: cuDNN has no use for those, and neither has a mean.
        """
        token_ids = tf.cast(self.layer(texts), tf.int32)
        length = self._sequence_length
        kept = slice(length) if self._truncate == "head" else slice(-length, None)
        token_ids = token_ids[:, kept]
        is_empty = tf.equal(token_ids.row_lengths(), 0)
        filler = tf.RaggedTensor.from_row_lengths(
            tf.fill([tf.math.count_nonzero(is_empty)], UNKNOWN_ID), tf.cast(is_empty, tf.int64)
        )
        return tf.concat([token_ids, filler], axis=1)


def count(texts: Iterable[Sequence[bytes]], *, vocab_size: int) -> list[str]:
    """Collects the vocabulary of the training texts, as TextVectorization.adapt does.

    Counted here in a tenth of its time; of words that are as frequent as each other, the one that
    is later in the alphabet comes first, as there.

    Args:
        texts: Standardized texts, some at a time.
        vocab_size: Number of ids, padding and unknown included.

    Returns:
        The most frequent words, most frequent first, `vocab_size - FIRST_WORD_ID` at most.
    """
    counts: collections.Counter[bytes] = collections.Counter()
    for some in texts:
        counts.update(b" ".join(some).split())
    by_count = heapq.nlargest(
        vocab_size - FIRST_WORD_ID, counts.items(), key=lambda item: (item[1], item[0])
    )
    return [word.decode() for word, _ in by_count]


def save(words: Sequence[str], path: Path) -> None:
    """Writes one word a line; the word on line 1 has id `FIRST_WORD_ID`."""
    path.write_bytes(_encode(words))


def load(path: Path) -> list[str]:
    """Reads what `save` wrote.

    Raises:
        Mistake: There is no such file.
        Fault: The file is not UTF-8, or has a line that `save` does not write.
    """
    if not path.is_file():
        raise Mistake(f"there is no vocabulary at {path}; train a model there first")
    try:
        words = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise Fault(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    if not all(words):
        raise Fault(f"{path} has an empty line ({words.index('') + 1}); it is damaged")
    if _UNKNOWN in words:
        raise Fault(f"{path} has {_UNKNOWN!r}, which stands for unknown words; it is damaged")
    if len(set(words)) < len(words):
        word, _ = collections.Counter(words).most_common(1)[0]
        raise Fault(f"{path} has {word!r} twice; it is damaged")
    return words


def fingerprint(words: Sequence[str]) -> str:
    """Returns the SHA-256 of the file that `save` writes, as sha256sum tells it."""
    return hashlib.sha256(_encode(words)).hexdigest()


def _encode(words: Sequence[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode("utf-8")
