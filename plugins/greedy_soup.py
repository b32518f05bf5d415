"""merge=greedy_soup."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import ALL, Combination, Law, Model, Plan, Probe, Reporter, combined, layer_scales
from lightning_embed.registry import register


@register("merge", "greedy_soup")
@dataclass(frozen=True)
class GreedySoup(Combination):
    """Average of the sources that raise the score, tried from the best to the worst.

        soup = {the source with the best score}
        for each further source, in the order of the scores:
            if score(average of soup and it) > score(average of soup): add it

    Wortsman et al. (2022), "Model soups", arXiv 2203.05482, recipe 1. The score is the probe's mean dev score over
    tasks, on held-out data, so the result is never worse there than the best source. Where we differ: the paper also
    adds a source that leaves the score unchanged; we do not, so that a copy changes nothing.

    2N - 1 models are evaluated, one in memory at a time. The plan has each source's own score, the order of the trials,
    and the score of each trial. `permutation` holds except for sources with equal scores, which keep their order;
    `scale` does not, because data do not scale with deltas. The strategy has no weights: the soup is uniform.

    Raises:
        ConfigError: in `prepare`, a score that is not finite.
    """

    needs_probe = True
    needs_scores = True
    laws = frozenset({Law.copies, Law.single, Law.permutation})

    def prepare(self, sources: Sequence[Model], base: Model | None, probe: Probe | None, reporter: Reporter) -> Plan:
        """The shares of the chosen sources, and the scores of all trials."""
        assert probe is not None
        averages = _Averages(self, sources, base, probe)
        own = [averages.score([number]) for number in range(len(sources))]
        order = sorted(range(len(sources)), key=lambda number: -own[number])
        soup, best, scores = order[:1], own[order[0]], [own[order[0]]]
        for step, number in enumerate(order[1:], start=1):
            score = averages.score([*soup, number])
            if score > best:
                soup, best = [*soup, number], score
            scores.append(score)
            reporter.log({"score": score, "best_score": best, "num_chosen": len(soup)}, step)
        shares = [1 / len(soup) if number in soup else 0.0 for number in range(len(sources))]
        names = [sources[number].name for number in order]
        return {"coefficients": {ALL: shares}, "own_scores": own, "order": names, "scores": scores}


class _Averages:
    """Scores of averages of sources, computed one at a time in the same memory, with the rules of `layers`."""

    def __init__(self, strategy: GreedySoup, sources: Sequence[Model], base: Model | None, probe: Probe) -> None:
        self.sources, self.probe = sources, probe
        self.base = base if strategy.layers else None
        self.scales = layer_scales(strategy.layers or [], sources[0].parameters)
        self.parameters: dict[str, Tensor] | None = None

    def score(self, numbers: Sequence[int]) -> float:
        """The score of the average of these sources."""
        chosen = [self.sources[number] for number in numbers]
        shares = {name: [scale / len(chosen)] * len(chosen) for name, scale in self.scales.items()}
        self.parameters = combined(chosen, self.base, shares, self.parameters)
        score = self.probe.score(self.parameters)
        if not math.isfinite(score):  # every comparison with NaN is false, and would be a choice
            names = ", ".join(model.name for model in chosen)
            raise ConfigError(f"merge=greedy_soup: the average of {names} has the dev score {score}. Leave one out.")
        return score
