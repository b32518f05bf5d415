"""Findings about the geometry of sources, as codes and numbers; `lightning_embed.report` has the sentences."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """The kinds of findings, with the facts of each.

    `source` and `sources` are names, `share` and `kept` are shares of 1, `lowest` and `highest` are cosines.
    """

    weights_close = "weights_close"  # no base; lowest
    weights_unrelated = "weights_unrelated"  # no base; sources: a pair, cosine
    all_equal_base = "all_equal_base"
    another_base = "another_base"  # sources, shares_of_base: |delta| / |base| of each
    far_from_base = "far_from_base"  # sources, shares_of_base
    near_base = "near_base"  # sources
    parallel = "parallel"  # sources, lowest, highest, kept: by an average, of the mean length of the deltas
    orthogonal = "orthogonal"  # as parallel
    partly_shared = "partly_shared"  # as parallel
    opposed = "opposed"  # sources: a pair, cosine
    unequal_lengths = "unequal_lengths"  # longest and shortest: names, ratio: of their lengths
    few_sign_conflicts = "few_sign_conflicts"  # share: of the elements that moved, chance: the share of random signs
    near_copies = "near_copies"  # sources: a pair, cosine, deltas: how many moved, directions: how many of them count
    outlier_layer = "outlier_layer"  # layer, source, ratio: of its relative change to that of the median layer
    opposed_in_layer = "opposed_in_layer"  # layer, sources: a pair, cosine


@dataclass(frozen=True)
class Finding:
    """One finding, as merge.json stores it.

    Args:
        code: a `Code`.
        facts: finite JSON values, by the names that `Code` lists.
    """

    code: str
    facts: dict[str, Any]
