"""Sentences for the findings of merge.json: one per code of `lightning_embed.merge.diagnosis.finding`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning_embed.merge.diagnosis.finding import Code

Facts = Mapping[str, Any]
"""The facts of a finding; `Code` lists the names."""


def sentence(finding: str | Facts) -> str:
    """The sentence of one entry of `geometry.expectations`.

    Args:
        finding: its code and facts. A string is the sentence itself, which earlier versions wrote.

    Returns:
        The sentence; for a code of a newer version, the code and its facts.
    """
    if isinstance(finding, str):
        return finding
    code, facts = finding["code"], finding["facts"]
    if code in _SENTENCES:
        return _SENTENCES[code](facts)
    listed = ", ".join(f"{name} {value}" for name, value in facts.items())
    return f"{code}: {listed}" if listed else code


def _weights_close(facts: Facts) -> str:
    return (
        f"The sources lie close together (cosine of the weights at least {facts['lowest']:.3f}), "
        "as fine-tunes of one model do. With base= the doctor sees more."
    )


def _weights_unrelated(facts: Facts) -> str:
    return (
        f"The weights of {_names(facts['sources'])} have the cosine {facts['cosine']:.2f}: they are not fine-tunes of "
        "one model. Expect a broken model; ensemble=true measures what they can do together."
    )


def _all_equal_base(_: Facts) -> str:
    return "No source differs from the base: every strategy gives the base back."


def _another_base(facts: Facts) -> str:
    return f"{_distance(facts)}, but close together: they started from another model. Give that one as base=."


def _far_from_base(facts: Facts) -> str:
    return (
        f"{_distance(facts)}. Models that did not start from one model cannot be averaged: expect a broken model. "
        "Leave them out, or measure ensemble=true."
    )


def _distance(facts: Facts) -> str:
    verb = "lies" if len(facts["sources"]) == 1 else "lie"
    times = _range(facts["shares_of_base"])
    return f"{_names(facts['sources'])} {verb} {times} times the base's own length away from it (fine-tunes: below 0.1)"


def _near_base(facts: Facts) -> str:
    verb = "is the base, or hardly differs" if len(facts["sources"]) == 1 else "are the base, or hardly differ"
    return (
        f"{_names(facts['sources'])} {verb} from it: an average only takes the others back towards the base. "
        "merge=wise_ft does that with a share of your choice."
    )


def _parallel(facts: Facts) -> str:
    return (
        f"The task vectors are nearly parallel {_cosines(facts)}: the sources learned the same. An average loses "
        f"nothing (it keeps {_kept(facts)}), and all strategies except a search will come out alike; self_positioning "
        "may go far beyond the sources (negative coefficients in merge.json)."
    )


def _orthogonal(facts: Facts) -> str:
    return (
        f"The task vectors are nearly orthogonal {_cosines(facts)}: the sources changed different things. "
        f"An average keeps 1/{len(facts['sources'])} of each ({_kept(facts)}); {_keeping_more(facts)}."
    )


def _partly_shared(facts: Facts) -> str:
    return (
        f"The task vectors share a part of their direction {_cosines(facts)}: an average keeps that part and "
        f"1/{len(facts['sources'])} of the rest ({_kept(facts)}); {_keeping_more(facts)}."
    )


def _cosines(facts: Facts) -> str:
    noun = "cosines" if len(facts["sources"]) > 2 else "cosine"  # two sources are one pair
    return f"({noun} {_range([facts['lowest'], facts['highest']])})"


def _kept(facts: Facts) -> str:
    return f"{facts['kept']:.0%} of their mean length"


def _keeping_more(facts: Facts) -> str:
    share = 1 / len(facts["sources"])
    return f"task_arithmetic with a scale between {share:.2f} and 1, or self_positioning, can keep more"


def _opposed(facts: Facts) -> str:
    return (
        f"{_names(facts['sources'])} point against each other (cosine {facts['cosine']:.2f}): each undoes a part of "
        "what the other learned, and no average has both. Give one of them more weight, or let ties choose element by "
        "element."
    )


def _unequal_lengths(facts: Facts) -> str:
    return (
        f"{facts['longest']!r} is {facts['ratio']:.1f} times as long as {facts['shortest']!r} and dominates an "
        "average. To balance them: weighting=given with a smaller weight for the long one, or multislerp with "
        "of=delta, which merges directions."
    )


def _few_sign_conflicts(facts: Facts) -> str:
    return (
        f"Only {facts['share']:.0%} of the elements that moved have conflicting signs (chance: {facts['chance']:.0%}): "
        "the sources moved different ones, and adding them up (task_arithmetic with a scale near 1) disturbs none of "
        "the sources much."
    )


def _near_copies(facts: Facts) -> str:
    return (
        f"{facts['deltas']} task vectors make up {facts['directions']:.1f} independent directions: "
        f"{_names(facts['sources'])} are nearly one (cosine {facts['cosine']:.2f}) and count twice in an average. "
        "Leave one out, or give each half the weight."
    )


def _outlier_layer(facts: Facts) -> str:
    return (
        f"{facts['layer']} moved {facts['ratio']:.0f} times as far as the median layer in {facts['source']!r}: "
        "a rule layers=[...] can hold it back."
    )


def _opposed_in_layer(facts: Facts) -> str:
    return (
        f"In {facts['layer']} alone {_names(facts['sources'])} point against each other (cosine {facts['cosine']:.2f})."
    )


def _names(sources: Sequence[str]) -> str:
    """Quoted names as a list: 'a', 'b' and 'c'."""
    *first, last = map(repr, sources)
    return f"{', '.join(first)} and {last}" if first else last


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


_SENTENCES: Mapping[str, Callable[[Facts], str]] = {
    Code.weights_close: _weights_close,
    Code.weights_unrelated: _weights_unrelated,
    Code.all_equal_base: _all_equal_base,
    Code.another_base: _another_base,
    Code.far_from_base: _far_from_base,
    Code.near_base: _near_base,
    Code.parallel: _parallel,
    Code.orthogonal: _orthogonal,
    Code.partly_shared: _partly_shared,
    Code.opposed: _opposed,
    Code.unequal_lengths: _unequal_lengths,
    Code.few_sign_conflicts: _few_sign_conflicts,
    Code.near_copies: _near_copies,
    Code.outlier_layer: _outlier_layer,
    Code.opposed_in_layer: _opposed_in_layer,
}
