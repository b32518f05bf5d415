"""Resemblance of the names of columns: by words, their singular, their case, or a typing mistake."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from lightning_embed.types import Task

# In the singular. An unused column of `_STRONG` words is refused; `_WEAK` ones are only suggested for a missing column.
_SCORES = {"score", "similarity", "label", "relevance", "relatedness", "rating", "grade", "sim", "logit"}
_LABELLED = {"text": {"text", "sentence"}, "label": {"label", "class"}}
_LABELLED_WEAK = {
    "text": {"document", "doc", "content", "utterance", "input", "query", "question", "passage", "title", "body"},
    "label": {"category", "intent", "target", "topic", "cluster", "emotion", "sentiment"},
}
_STRONG: dict[Task, dict[str, set[str]]] = {
    Task.retrieval: {
        "positive_scores": _SCORES,
        "negatives": {"negative", "neg", "irrelevant", "distractor"},
        "positives": {
            *("positive", "pos", "answer", "document", "doc", "passage", "response", "reply", "relevant"),
            *("candidate", "ctx"),
        },
        "query": {"query", "question", "anchor"},
    },
    Task.sts: {"score": {*_SCORES, "gold"}, "text1": {"text", "sentence"}},
    Task.classification: _LABELLED,
    Task.clustering: _LABELLED,
}
_WEAK: dict[Task, dict[str, set[str]]] = {
    Task.retrieval: {
        "query": {"title", "input", "premise", "instruction", "q", "topic"},
        "positives": {"text", "content", "body", "output", "hypothesis", "context", "target", "abstract", "summary"},
    },
    Task.sts: {
        "text1": {"premise", "query", "question", "anchor"},
        "text2": {"hypothesis", "answer", "positive"},
    },
    Task.classification: _LABELLED_WEAK,
    Task.clustering: _LABELLED_WEAK,
}
_QUALIFIERS = {
    *("hard", "mined", "random", "gold", "teacher", "text", "list", "dense", "sparse", "easy", "soft", "top", "bm"),
    *("reranker", "search", "user", "a", "b", "sentence", "score"),
}
_HARMLESS = {
    *("id", "idx", "index", "qid", "pid", "docid", "uuid", "hash", "key", "num", "number", "n", "count", "len"),
    *("length", "rank", "type", "source", "src", "title", "url", "uri", "link", "lang", "language", "split", "dataset"),
    *("domain", "year", "date", "time", "timestamp", "meta", "metadata", "author", "name", "is", "has", "tag"),
    *("version", "license", "file", "filename", "path", "prompt", "instruction", "start", "end", "offset", "span"),
    *("genre", "rate", "ratio", "flag", "reason", "explanation"),
}


def resembled(name: str, task: Task) -> str | None:
    """Our column of which an unused column has nearly the name, or a name of the same meaning; None: of none.

    Ids, sources, languages, titles, prompts and the like resemble nothing.
    """
    words = list(_words(name))
    strong = _STRONG[task]
    if not words or set(words) & _HARMLESS or (len(strong) == 2 and {"label", "text"} <= set(words)):  # label_text
        return None
    known = {word for those in strong.values() for word in those}
    named = [word for word in words if word in known or _near_any(word, known)]
    if not named or (set(words) - {*named, *_QUALIFIERS} and not _is_signed(named, task)):
        return None
    return _field(named, words, name, task, strong)


def meant(name: str, task: Task) -> str | None:
    """Our column that a name may stand for where that one is missing; None: no idea."""
    words = list(_words(name))
    return resembled(name, task) or _field(words, words, name, task, _WEAK[task])


def _words(name: str) -> Iterator[str]:
    """The words of hard_negatives, hardNegatives or Hard-Negative: lower case, singular, without numbers."""
    for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name):
        low = word.lower()
        if low.endswith("ies"):
            yield low[:-3] + "y"
        elif low.endswith("sses"):
            yield low[:-2]
        else:
            yield low[:-1] if len(low) > 3 and low.endswith("s") and not low.endswith("ss") else low


def _is_near(word: str, known: str) -> bool:
    """Whether one typing mistake separates them, or `known` is in the word: qurey, negatve, hardnegative."""
    if len(known) < 4 or known in ("text", "class"):
        return False
    if len(known) > 7 and known in word:
        return True
    start = _shared(word, known)
    rest, other = word[start:], known[start:]
    end = _shared(rest[::-1], other[::-1])
    rest, other = rest[: len(rest) - end], other[: len(other) - end]
    swapped = len(rest) == 2 and rest == other[::-1]
    changed = len(rest) == len(other) == 1 and len(known) > 5  # text and test are words of their own
    return start > 0 and (swapped or changed or sorted((len(rest), len(other))) == [0, 1])


def _shared(one: str, other: str) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _is_signed(words: Sequence[str], task: Task) -> bool:
    """Whether a name says positive or negative, whatever its other words are: negatives_bge."""
    return task is Task.retrieval and any(word.startswith(("neg", "pos")) for word in words)


def _field(named: Sequence[str], words: Sequence[str], name: str, task: Task, of: Mapping[str, set[str]]) -> str | None:
    """The first field of which a word is known."""
    field = next((f for f, known in of.items() if any(n in known or _near_any(n, known) for n in named)), None)
    if field == "positive_scores" and any(word.startswith("neg") for word in words):
        return "negative_scores"
    if field == "text1" and task is Task.sts and re.search(r"(2|[_ ]?b)$", name, re.IGNORECASE):
        return "text2"
    return field


def _near_any(word: str, known: Collection[str]) -> bool:
    return any(_is_near(word, each) for each in known)
