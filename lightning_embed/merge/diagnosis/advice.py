"""What to expect of merging sources that lie like this, and why: each rule is a function and gives one sentence or none.

Fine-tunes of one model lie near it (|delta| below a tenth of |base|) and, when they were trained on different things,
nearly at right angles to each other (Ilharco et al. 2023, arXiv 2212.04089). The thresholds say where a merge leaves
that picture.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median

import torch

from lightning_embed.merge.diagnosis.geometry import Geometry, effective_directions

UNRELATED = 0.7  # |delta| / |base|: independent models of one length are sqrt(2) = 1.4 apart, fine-tunes less than 0.1
STILL = 0.01  # of the longest delta: what moved less changes no merge that anyone could measure
PARALLEL = 0.8  # cosine: from here on an average, of however many, keeps 90 % of their length
ORTHOGONAL = 0.2  # cosine: below it an average of two keeps less than 77 % of their length; 71 % at right angles
OPPOSED = -0.1  # cosine: chance would give 0.000 between vectors of millions of elements
LONGER = 2.0  # ratio of lengths: from here on two thirds of an average of two are one of them
FEW_CONFLICTS = 0.5  # of what chance gives: the sources moved different elements
OUTLIER = 3.0  # times the median of all layers


@dataclass(frozen=True)
class Seen:
    """What a rule looks at."""

    geometry: Geometry
    names: Sequence[str]

    @property
    def moved(self) -> list[int]:
        """The sources that differ from the base."""
        longest = max(self.geometry.delta_norms)
        return [i for i, norm in enumerate(self.geometry.delta_norms) if norm > STILL * longest]

    @property
    def pairs(self) -> list[tuple[float, int, int]]:
        """Cosine, one, other: of any two sources that moved."""
        return [(self.geometry.delta_cosines[i][j], i, j) for i, j in combinations(self.moved, 2)]

    @property
    def cosines(self) -> list[float]:
        """Of those pairs."""
        return [cosine for cosine, _, _ in self.pairs]

    @property
    def directions(self) -> float:
        """How many independent directions the deltas that moved make up."""
        cosines = torch.tensor(self.geometry.delta_cosines, dtype=torch.float64)
        return effective_directions(cosines[self.moved][:, self.moved])

    @property
    def kept_by_average(self) -> float:
        """The length of the mean of the deltas that moved, as a share of their mean length."""
        norms = self.geometry.delta_norms
        square = sum(norms[i] ** 2 for i in self.moved) + sum(2 * norms[i] * norms[j] * c for c, i, j in self.pairs)
        return math.sqrt(max(square, 0)) / sum(norms[i] for i in self.moved)

    def named(self, chosen: Sequence[int]) -> str:
        """The names of sources as a list for people."""
        *first, last = [repr(self.names[i]) for i in chosen]
        return f"{', '.join(first)} and {last}" if first else last


def explained(geometry: Geometry, names: Sequence[str]) -> Geometry:
    """The geometry with what to expect of it."""
    return replace(geometry, expectations=expect(Seen(geometry, names)))


def expect(seen: Seen) -> list[str]:
    """Sentences for people, the most important one first."""
    if not seen.geometry.base_norm:
        return [] if len(seen.names) < 2 else [_without_base(seen)]
    if not seen.moved:
        return ["No source differs from the base: every strategy gives the base back."]
    if unrelated := list(_unrelated(seen)):
        return unrelated
    rules = (_still, _direction, _opposed, _lengths, _conflicts, _copies, _layers, _opposed_layers)
    return [sentence for rule in rules for sentence in rule(seen)]


def _without_base(seen: Seen) -> str:
    cosine, i, j = min(seen.pairs)
    if math.sqrt(2 * (1 - cosine)) < UNRELATED:  # the distance of two models of length 1
        return f"The sources lie close together (cosine of the weights at least {cosine:.3f}), as fine-tunes of one model do. With base= the doctor sees more."
    return (
        f"The weights of {seen.named([i, j])} have the cosine {cosine:.2f}: they are no fine-tunes of one model. Expect a broken model; "
        "ensemble=true measures what they can do together."
    )


def _unrelated(seen: Seen) -> Iterator[str]:
    ratios = {i: seen.geometry.delta_norms[i] / seen.geometry.base_norm for i in seen.moved}
    far = [i for i in seen.moved if ratios[i] >= UNRELATED]
    if not far:
        return
    lies = f"{seen.named(far)} {'lies' if len(far) == 1 else 'lie'} {_range([ratios[i] for i in far])} times the base's own length away from it (fine-tunes: below 0.1)"
    if len(far) > 1 and min(cosine for cosine, i, j in seen.pairs if {i, j} <= set(far)) >= PARALLEL:
        yield f"{lies}, but close together: they started from another model. Give that one as base=."
    else:
        yield f"{lies}. What did not start from one model cannot be averaged: expect a broken model. Leave it out, or measure ensemble=true."


def _still(seen: Seen) -> Iterator[str]:
    if still := [i for i in range(len(seen.names)) if i not in seen.moved]:
        verb = "is the base, or hardly differs" if len(still) == 1 else "are the base, or hardly differ"
        yield f"{seen.named(still)} {verb} from it: an average only takes the others back towards the base. merge=wise_ft does that with a share of your choice."


def _direction(seen: Seen) -> Iterator[str]:
    """How the deltas lie to each other, and so how much of them an average keeps."""
    if len(seen.moved) < 2 or min(seen.cosines) <= OPPOSED:
        return
    count, found = len(seen.moved), f"(cosine{'s' * (len(seen.pairs) > 1)} {_range(seen.cosines)})"
    length = f"{seen.kept_by_average:.0%} of their mean length"
    more = f"task_arithmetic with a scale between {1 / count:.2f} and 1, or self_positioning, can keep more"
    if min(seen.cosines) >= PARALLEL:
        yield f"The task vectors are nearly parallel {found}: the sources learned the same. An average loses nothing (it keeps {length}), and all strategies but a search will come out alike; self_positioning may go far beyond the sources (negative coefficients in merge.json)."
    elif max(seen.cosines) <= ORTHOGONAL:
        yield f"The task vectors are nearly orthogonal {found}: the sources changed different things. An average keeps 1/{count} of each ({length}); {more}."
    else:
        yield f"The task vectors share a part of their direction {found}: an average keeps that part and 1/{count} of the rest ({length}); {more}."


def _opposed(seen: Seen) -> Iterator[str]:
    if seen.pairs and min(seen.pairs)[0] <= OPPOSED:
        cosine, i, j = min(seen.pairs)
        yield (
            f"{seen.named([i, j])} point against each other (cosine {cosine:.2f}): each undoes a part of what the other learned, and no average has both. "
            "Give one of them more weight, or let ties choose element by element."
        )


def _lengths(seen: Seen) -> Iterator[str]:
    norms = [(seen.geometry.delta_norms[i], i) for i in seen.moved]
    (short, i), (long, j) = min(norms), max(norms)
    if long >= LONGER * short:
        yield (
            f"{seen.names[j]!r} is {long / short:.1f} times as long as {seen.names[i]!r} and dominates an average. To give both a say: weighting=given with a smaller weight "
            "for the long one, or multislerp with of=delta, which merges directions."
        )


def _conflicts(seen: Seen) -> Iterator[str]:
    share, chance = seen.geometry.sign_conflict_share, 1 - 2.0 ** (1 - len(seen.moved))
    if seen.pairs and max(seen.cosines) <= ORTHOGONAL and share <= FEW_CONFLICTS * chance:
        yield (
            f"Only {share:.0%} of the elements that moved have conflicting signs (chance: {chance:.0%}): the sources moved different ones, and adding them up "
            "(task_arithmetic with a scale near 1) disturbs none of the sources much."
        )


def _copies(seen: Seen) -> Iterator[str]:
    """Some sources are nearly the same, and others are not."""
    if seen.pairs and min(seen.cosines) < PARALLEL <= max(seen.cosines):
        cosine, i, j = max(seen.pairs)
        yield (
            f"{len(seen.moved)} task vectors make up {seen.directions:.1f} independent directions: {seen.named([i, j])} are nearly one (cosine {cosine:.2f}) "
            "and count twice in an average. Leave one out, or give each half the weight."
        )


def _layers(seen: Seen) -> Iterator[str]:
    """A layer has moved far more than the others."""
    found = []
    for i in seen.moved:
        ratios = {
            name: part.delta_norms[i] / part.base_norm for name, part in seen.geometry.groups.items() if part.base_norm
        }
        middle = median([ratio for ratio in ratios.values() if ratio] or [0.0])  # a frozen layer is no measure
        found += [(ratio / middle, name, i) for name, ratio in ratios.items() if ratio > OUTLIER * middle]
    if found:
        times, name, i = max(found)
        yield f"{name} moved {times:.0f} times as far as the median layer in {seen.names[i]!r}: a rule layers=[...] can hold it back."


def _opposed_layers(seen: Seen) -> Iterator[str]:
    """In one layer sources oppose each other that do not on the whole."""
    pairs = [(i, j) for cosine, i, j in seen.pairs if cosine > OPPOSED]
    found = [(part.delta_cosines[i][j], name, i, j) for name, part in seen.geometry.groups.items() for i, j in pairs]
    if found and min(found)[0] <= OPPOSED:
        cosine, name, i, j = min(found)
        yield f"In {name} alone {seen.named([i, j])} point against each other (cosine {cosine:.2f})."


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"
