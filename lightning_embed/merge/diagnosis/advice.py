"""Findings about merging sources, from their geometry: each rule is a function that yields findings, or none.

Fine-tunes of one model are near it (|delta| below a tenth of |base|). Trained on different data, they are nearly at
right angles to each other (Ilharco et al. 2023, arXiv 2212.04089). The thresholds are the limits of that picture.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median

import torch

from lightning_embed.merge.diagnosis.finding import Code, Finding
from lightning_embed.merge.diagnosis.geometry import Geometry, effective_directions

UNRELATED = 0.7  # |delta| / |base|: independent models of one length are sqrt(2) = 1.4 apart, fine-tunes less than 0.1
STILL = 0.01  # of the longest delta: a shorter one changes no merge measurably
PARALLEL = 0.8  # cosine: from here on an average, of however many, keeps 90 % of their length
ORTHOGONAL = 0.2  # cosine: below it an average of two keeps less than 77 % of their length; 71 % at right angles
OPPOSED = -0.1  # cosine: chance would give 0.000 between vectors of millions of elements
LONGER = 2.0  # ratio of lengths: from here on two thirds of an average of two are one of them
FEW_CONFLICTS = 0.5  # of the share at random signs: the sources moved different elements
OUTLIER = 3.0  # times the median of all layers


@dataclass(frozen=True)
class DeltaGeometry:
    """The geometry of named sources, with the quantities that the rules share.

    A source has moved if its delta is longer than `STILL` of the longest one; the others count neither as vectors nor
    as directions.

    Args:
        geometry: norms and cosines of the deltas.
        names: of the sources, in its order.
    """

    geometry: Geometry
    names: Sequence[str]

    @property
    def moved(self) -> list[int]:
        """The sources that differ from the base."""
        longest = max(self.geometry.delta_norms)
        return [i for i, norm in enumerate(self.geometry.delta_norms) if norm > STILL * longest]

    @property
    def pairs(self) -> list[tuple[float, int, int]]:
        """(cosine, one, other) of every two sources that moved."""
        return [(self.geometry.delta_cosines[i][j], i, j) for i, j in combinations(self.moved, 2)]

    @property
    def cosines(self) -> list[float]:
        """The cosines of `pairs`."""
        return [cosine for cosine, _, _ in self.pairs]

    @property
    def directions(self) -> float:
        """The number of independent directions among the deltas that moved."""
        cosines = torch.tensor(self.geometry.delta_cosines, dtype=torch.float64)
        return effective_directions(cosines[self.moved][:, self.moved])

    @property
    def kept_by_average(self) -> float:
        """The length of the mean of the deltas that moved, as a share of their mean length."""
        norms = self.geometry.delta_norms
        square = sum(norms[i] ** 2 for i in self.moved) + sum(2 * norms[i] * norms[j] * c for c, i, j in self.pairs)
        return math.sqrt(max(square, 0)) / sum(norms[i] for i in self.moved)

    def named(self, chosen: Sequence[int]) -> list[str]:
        """The names of some sources."""
        return [self.names[i] for i in chosen]


def with_findings(geometry: Geometry, names: Sequence[str]) -> Geometry:
    """The geometry of the sources `names`, with its findings."""
    return replace(geometry, expectations=find(DeltaGeometry(geometry, names)))


def find(deltas: DeltaGeometry) -> list[Finding]:
    """The findings of all rules, the most important one first."""
    if not deltas.geometry.base_norm:
        return [] if len(deltas.names) < 2 else [_without_base(deltas)]
    if not deltas.moved:
        return [Finding(Code.all_equal_base, {})]
    if unrelated := list(_unrelated(deltas)):
        return unrelated
    rules = (_near_base, _direction, _opposed, _lengths, _conflicts, _copies, _layers, _opposed_layers)
    return [finding for rule in rules for finding in rule(deltas)]


def _without_base(deltas: DeltaGeometry) -> Finding:
    cosine, i, j = min(deltas.pairs)
    if math.sqrt(2 * (1 - cosine)) < UNRELATED:  # the distance of two models of length 1
        return Finding(Code.weights_close, {"lowest": cosine})
    return Finding(Code.weights_unrelated, {"sources": deltas.named([i, j]), "cosine": cosine})


def _unrelated(deltas: DeltaGeometry) -> Iterator[Finding]:
    """Sources too far away to be fine-tunes of the base; if near each other, fine-tunes of another model."""
    ratios = {i: deltas.geometry.delta_norms[i] / deltas.geometry.base_norm for i in deltas.moved}
    far = [i for i in deltas.moved if ratios[i] >= UNRELATED]
    if not far:
        return
    cosines = [cosine for cosine, i, j in deltas.pairs if {i, j} <= set(far)]
    code = Code.another_base if cosines and min(cosines) >= PARALLEL else Code.far_from_base
    yield Finding(code, {"sources": deltas.named(far), "shares_of_base": [ratios[i] for i in far]})


def _near_base(deltas: DeltaGeometry) -> Iterator[Finding]:
    """Sources that have not moved."""
    if still := [i for i in range(len(deltas.names)) if i not in deltas.moved]:
        yield Finding(Code.near_base, {"sources": deltas.named(still)})


def _direction(deltas: DeltaGeometry) -> Iterator[Finding]:
    """The angles between the deltas, and the share of their length that an average therefore keeps."""
    if len(deltas.moved) < 2 or min(deltas.cosines) <= OPPOSED:
        return
    code = Code.partly_shared
    if min(deltas.cosines) >= PARALLEL:
        code = Code.parallel
    elif max(deltas.cosines) <= ORTHOGONAL:
        code = Code.orthogonal
    facts = {
        "sources": deltas.named(deltas.moved),
        "lowest": min(deltas.cosines),
        "highest": max(deltas.cosines),
        "kept": deltas.kept_by_average,
    }
    yield Finding(code, facts)


def _opposed(deltas: DeltaGeometry) -> Iterator[Finding]:
    """The pair with the widest angle, if that is obtuse."""
    if deltas.pairs and min(deltas.pairs)[0] <= OPPOSED:
        cosine, i, j = min(deltas.pairs)
        yield Finding(Code.opposed, {"sources": deltas.named([i, j]), "cosine": cosine})


def _lengths(deltas: DeltaGeometry) -> Iterator[Finding]:
    """The longest delta, if it is much longer than the shortest."""
    norms = [(deltas.geometry.delta_norms[i], i) for i in deltas.moved]
    (short, i), (long, j) = min(norms), max(norms)
    if long >= LONGER * short:
        facts = {"longest": deltas.names[j], "shortest": deltas.names[i], "ratio": long / short}
        yield Finding(Code.unequal_lengths, facts)


def _conflicts(deltas: DeltaGeometry) -> Iterator[Finding]:
    """Orthogonal deltas whose signs conflict much less often than random ones."""
    share, chance = deltas.geometry.sign_conflict_share, 1 - 2.0 ** (1 - len(deltas.moved))
    if deltas.pairs and max(deltas.cosines) <= ORTHOGONAL and share <= FEW_CONFLICTS * chance:
        yield Finding(Code.few_sign_conflicts, {"share": share, "chance": chance})


def _copies(deltas: DeltaGeometry) -> Iterator[Finding]:
    """The closest pair, if it is nearly parallel and not all pairs are."""
    if deltas.pairs and min(deltas.cosines) < PARALLEL <= max(deltas.cosines):
        cosine, i, j = max(deltas.pairs)
        facts = {"sources": deltas.named([i, j]), "cosine": cosine}
        yield Finding(Code.near_copies, facts | {"deltas": len(deltas.moved), "directions": deltas.directions})


def _layers(deltas: DeltaGeometry) -> Iterator[Finding]:
    """The layer that has moved furthest beyond the median layer of its source."""
    found = []
    for i in deltas.moved:
        ratios = {
            name: part.delta_norms[i] / part.base_norm
            for name, part in deltas.geometry.groups.items()
            if part.base_norm
        }
        middle = median([ratio for ratio in ratios.values() if ratio] or [0.0])  # a frozen layer is no measure
        found += [(ratio / middle, name, i) for name, ratio in ratios.items() if ratio > OUTLIER * middle]
    if found:
        ratio, name, i = max(found)
        yield Finding(Code.outlier_layer, {"layer": name, "source": deltas.names[i], "ratio": ratio})


def _opposed_layers(deltas: DeltaGeometry) -> Iterator[Finding]:
    """The layer in which two sources are most opposed, of the pairs that are not opposed in the whole model."""
    pairs = [(i, j) for cosine, i, j in deltas.pairs if cosine > OPPOSED]
    found = [(part.delta_cosines[i][j], name, i, j) for name, part in deltas.geometry.groups.items() for i, j in pairs]
    if found and min(found)[0] <= OPPOSED:
        cosine, name, i, j = min(found)
        yield Finding(Code.opposed_in_layer, {"layer": name, "sources": deltas.named([i, j]), "cosine": cosine})
