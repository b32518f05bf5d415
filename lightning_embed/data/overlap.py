"""Overlap of texts: which of many texts stand in a test set, equal or nearly equal.

Texts are compared by their letters: lower case, without white space and punctuation, in Unicode's form NFKC. Two texts
are nearly equal if the Jaccard similarity of their sets of 5 neighbouring letters is at least 0.8, as in the
deduplication of training data for language models (Lee et al. 2022, arXiv 2107.06499). Shorter texts than 100 letters
have to be equal: there, one other word is often another question ("the capital of Fiji", "of Cuba").

Pairs that are worth comparing are found by winnowing (Schleimer et al. 2003, "Winnowing: local algorithms for document
fingerprinting"): the smallest hash of 16 letters in each window of 9. Two texts that share 24 letters in a row share
such an anchor, and texts as similar as that share so many. Only the texts of the test
sets are in memory, so that the cost is linear in the size of the data.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import islice
from typing import NamedTuple
from unicodedata import category, normalize

import numpy as np
import xxhash
from jaxtyping import Bool, Int, UInt32, UInt64

LEAST_SIMILARITY = 0.8
LEAST_LETTERS = 100  # of a text that can be nearly equal to another one
_LETTERS = 5  # that stand together in the comparison of two texts
_ANCHOR = 16  # letters of an anchor
_WINDOW = 9  # anchors of which the smallest is kept
_HIT_SHARE = 0.15  # least share of anchors that a text has in common with nearly equal ones
_OWNERS = 32  # texts with the same anchor that are compared
_TRIED = 4  # texts that are compared with one, those with the most anchors in common first
_VOTES = 64  # anchors of a text by which those are chosen
_ROWS = 1000  # texts that are searched at once
_FACTOR = 0x9E3779B97F4A7C15  # odd; of the polynomial that is the hash of an anchor


class Found(NamedTuple):
    """A text of a row that is in a test set: its place among the texts of the row, and the number of the text there."""

    row: int
    place: int
    text: str
    test: int
    is_equal: bool


class TextIndex:
    """The texts of test sets, to look up others in.

    Args:
        texts: the texts; `first` is the number of the first text that equals each of them.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.first = texts, list(range(len(texts)))
        anchors, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        self._equal: dict[int, int] = {}
        for start in range(0, len(texts), _ROWS):
            letters, ends = _folded(texts[start : start + _ROWS])
            for number, key in enumerate(_keys(letters, ends), start):
                if key is not None:
                    self.first[number] = self._equal.setdefault(key, number)
            found, owner = _anchors(letters, ends)
            anchors.append(found)
            owners.append(owner + start)
        order = np.argsort(joined := np.concatenate(anchors), kind="stable")
        self._anchors, first = np.unique(joined[order], return_index=True)
        self._start = np.append(first, len(order))
        self._owners = np.concatenate(owners)[order]
        bits = max(16, 4 + len(self._anchors).bit_length())
        self._shift = np.uint64(64 - bits)
        self._may_have = np.zeros(2**bits, bool)  # a look-up here is ten times as fast as a search
        self._may_have[self._anchors >> self._shift] = True

    def find(self, rows: Iterable[Sequence[str]]) -> Iterator[Found]:
        """The texts of rows that are in the test sets, each with the equal text there, or else the most similar one."""
        numbered = ((row, place, text) for row, texts in enumerate(rows) for place, text in enumerate(texts))
        while part := list(islice(numbered, _ROWS)):
            texts = [text for _, _, text in part]
            letters, ends = _folded(texts)
            equal = [None if key is None else self._equal.get(key) for key in _keys(letters, ends)]
            near = dict(self._near(texts, letters, ends, np.array([test is None for test in equal])))
            for number, (row, place, text) in enumerate(part):
                if (same := equal[number]) is not None:
                    yield Found(row, place, text, same, True)
                elif number in near:
                    yield Found(row, place, text, near[number], False)

    def _near(
        self,
        texts: Sequence[str],
        letters: UInt32[np.ndarray, " letters"],
        ends: Int[np.ndarray, " texts"],
        wanted: Bool[np.ndarray, " texts"],
    ) -> Iterator[tuple[int, int]]:
        """(number of a wanted text, number of the nearly equal one)."""
        anchors, owner = _anchors(letters, ends)
        total = np.bincount(owner, minlength=len(texts))
        maybe = self._may_have[anchors >> self._shift] & wanted[owner]
        anchors, owner = anchors[maybe], owner[maybe]
        place = np.searchsorted(self._anchors[:-1], anchors)
        hit = self._anchors[place] == anchors
        place, owner = place[hit], owner[hit]
        hits = np.bincount(owner, minlength=len(texts))
        start = np.cumsum(hits) - hits
        for number in np.flatnonzero((hits > 0) & (hits >= _HIT_SHARE * total)).tolist():
            own = place[start[number] : start[number] + min(hits[number], _VOTES)]
            tried = self._candidates(own)
            best = max(tried, key=lambda test: similarity(texts[number], self.texts[test]))
            if similarity(texts[number], self.texts[best]) >= LEAST_SIMILARITY:
                yield number, best

    def _candidates(self, places: Int[np.ndarray, " anchors"]) -> list[int]:
        """The texts with the most of these anchors."""
        spans = [self._owners[self._start[p] : self._start[p + 1]][:_OWNERS] for p in places.tolist()]
        return [test for test, _ in Counter(np.concatenate(spans).tolist()).most_common(_TRIED)]


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of the sets of 5 neighbouring letters of two texts, in [0, 1]."""
    first, second = _grams(one), _grams(other)
    return len(first & second) / max(1, len(first | second))


@lru_cache(maxsize=2**12)
def _grams(text: str) -> frozenset[str]:
    folded = "".join(filter(_is_letter, normalize("NFKC", text).casefold()))
    return frozenset(folded[i : i + _LETTERS] for i in range(max(1, len(folded) - _LETTERS + 1)))


def _folded(texts: Sequence[str]) -> tuple[UInt32[np.ndarray, " letters"], Int[np.ndarray, " texts"]]:
    """The letters of texts, as code points one after the other, and the end of each text among them."""
    lower = [(text if text.isascii() else normalize("NFKC", text)).casefold() for text in texts]
    codes = np.frombuffer("".join(lower).encode("utf-32-le", "surrogatepass"), np.uint32)
    kept = _letters(codes.max(initial=0) < 128)[codes]
    ends = np.cumsum([len(text) for text in lower], dtype=np.int64)
    return codes[kept], np.concatenate([[0], np.cumsum(kept)])[ends]


@cache
def _letters(ascii_only: bool) -> Bool[np.ndarray, " codes"]:
    """Whether each code point counts."""
    return np.array([_is_letter(chr(code)) for code in range(128 if ascii_only else 0x110000)])


def _is_letter(character: str) -> bool:
    """Neither punctuation, nor white space, nor a control character: letters, marks, digits and symbols."""
    return category(character)[0] not in "PZC"


def _keys(letters: UInt32[np.ndarray, " letters"], ends: Int[np.ndarray, " texts"]) -> Iterator[int | None]:
    """A hash of the letters of each text; None: it has none."""
    start, data = 0, letters.tobytes()
    for end in (ends * 4).tolist():
        yield xxhash.xxh3_64_intdigest(data[start:end]) if end > start else None
        start = end


def _anchors(
    letters: UInt32[np.ndarray, " letters"], ends: Int[np.ndarray, " texts"]
) -> tuple[UInt64[np.ndarray, " anchors"], Int[np.ndarray, " anchors"]]:
    """The anchors of the long texts, and the number of the text of each."""
    text = np.repeat(np.arange(len(ends)), lengths := np.diff(ends, prepend=0))
    is_long = lengths[text] >= LEAST_LETTERS
    letters, text = letters[is_long], text[is_long]
    if not len(text):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    hashes, step = letters.astype(np.uint64) * np.uint64(_FACTOR), 1
    while step < _ANCHOR:
        hashes = hashes[:-step] * np.uint64(pow(_FACTOR, step, 2**64)) + hashes[step:]
        step *= 2
    hashes = (hashes ^ (hashes >> np.uint64(29))) * np.uint64(_FACTOR)
    for step in (1, 2, 4, 1):  # the smallest of 2, 4, 8, 9
        hashes = np.minimum(hashes[:-step], hashes[step:])
    owner = text[: len(hashes)]
    kept = owner == text[-len(hashes) :]  # all letters are of one text
    kept[1:] &= (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
    return hashes[kept], owner[kept]
