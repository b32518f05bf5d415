"""Pictures of the geometry of sources and merges."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from lightning_embed.report.figures.svg import beside_each_other, heat_map, lines
from lightning_embed.report.scores.merge_groups import Examined, Geometry, Record, examined
from lightning_embed.storage.atomic import write_whole

FILE = "geometry.svg"
_MOST_PAIRS = 3  # with a line each; of more pairs, the closest, the mean and the furthest are drawn
_MOST_LINES = 8


def draw_geometry(folder: Path, record: Record) -> None:
    """Write the pictures beside merge.json."""
    for seen in examined({record["strategy"]: record}):
        write_whole(folder / FILE, beside_each_other(pictures(seen)))


def pictures(seen: Examined) -> list[str]:
    """Norms, cosines, sign conflicts and ranks of the deltas, one SVG each, without the layers that are unchanged."""
    groups = seen.groups
    if not groups:
        return []
    charts = [_norms(seen, groups), _cosines(seen)] if seen.geometry["base_norm"] else [_cosines(seen)]
    if len(seen.names) > 1:
        charts += [_pair_cosines(groups, seen.names), _conflicts(groups, len(seen.names))]
    return charts + _ranks(groups, seen.names)


def _norms(seen: Examined, groups: Mapping[str, Geometry]) -> str:
    """The lengths of the deltas in each layer; with many merges, those of the sources alone."""
    moved = {name: [part["delta_norms"][i] for part in groups.values()] for i, name in enumerate(seen.names)}
    if len(seen.merges) == 1 or len(seen.names) + len(seen.merges) <= _MOST_LINES:
        moved |= {
            name: [found["groups"][group]["merged_norm"] for group in groups] for name, found in seen.merges.items()
        }
    bases = [part["base_norm"] for part in groups.values()]
    shares = {
        name: [100 * n / base if base else None for n, base in zip(norms, bases, strict=True)]
        for name, norms in moved.items()
    }
    return lines("How far each layer has moved", "% of |base|", list(groups), shares, bold=list(seen.merges))


def _cosines(seen: Examined) -> str:
    values = [*seen.geometry["delta_cosines"], *(found["merged_cosines"] for found in seen.merges.values())]
    of = "task vectors" if seen.geometry["base_norm"] else "weights"
    return heat_map(f"Cosines of the {of}", [*seen.names, *seen.merges], seen.names, values)


def _pair_cosines(groups: Mapping[str, Geometry], names: Sequence[str]) -> str:
    pairs = list(combinations(range(len(names)), 2))
    found = [[part["delta_cosines"][i][j] for i, j in pairs] for part in groups.values()]
    if len(pairs) <= _MOST_PAIRS:
        series = {f"{names[i]}, {names[j]}": [f[place] for f in found] for place, (i, j) in enumerate(pairs)}
    else:
        series = {
            "closest pair": [max(f) for f in found],
            "mean": [sum(f) / len(f) for f in found],
            "furthest pair": [min(f) for f in found],
        }
    return lines("Cosines in each layer", "cosine", list(groups), series)


def _conflicts(groups: Mapping[str, Geometry], count: int) -> str:
    shares = {"sources": [100 * part["sign_conflict_share"] for part in groups.values()]}
    chance = ("by chance", 100 * (1 - 2.0 ** (1 - count)))
    return lines("Conflicting signs, of elements that moved", "%", list(groups), shares, bold=["sources"], level=chance)


def _ranks(groups: Mapping[str, Geometry], names: Sequence[str]) -> list[str]:
    ranks = {name: part["stable_ranks"] for name, part in groups.items() if part["stable_ranks"]}
    series = {name: [found[i] for found in ranks.values()] for i, name in enumerate(names)}
    return [lines("Directions in the change of a matrix", "stable rank", list(ranks), series)] if ranks else []
