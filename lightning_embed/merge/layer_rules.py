"""Rules per layer: the option `layers`, which every strategy has."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from lightning_embed.errors import ConfigError


@dataclass(frozen=True)
class LayerRule:
    """Parameters whose full name matches `pattern` go the share `scale` of the way from base to merged model."""

    pattern: re.Pattern[str]
    scale: float


def parse_rules(layers: Sequence[str]) -> list[LayerRule]:
    """Read rules of the form "<regular expression>=<number>".

    Raises:
        ConfigError: a different form, a bad regular expression, or a number that is not finite.
    """
    return [_parse(rule) for rule in layers]


def layer_scales(
    layers: Sequence[str], names: Iterable[str], tied: Mapping[str, str] = MappingProxyType({})
) -> dict[str, float]:
    """The scale of each parameter: the number of the first rule that matches, or 1.

    Args:
        layers: rules.
        names: of the parameters.
        tied: name of a matrix -> another name of the same matrix. A rule for one of them counts for both.

    Raises:
        ConfigError: a rule that is the first match of no parameter, or rules that differ between names of one matrix.
    """
    rules, names = parse_rules(layers), list(names)
    first = {name: next((i for i, rule in enumerate(rules) if rule.pattern.fullmatch(name)), None) for name in names}
    for number, rule in enumerate(rules):
        if number not in first.values():
            earlier = " that an earlier rule has not taken" if any(map(rule.pattern.fullmatch, names)) else ""
            near = get_close_matches(rule.pattern.pattern, names, n=1, cutoff=0) or names[:1]
            raise ConfigError(
                f"layers: {layers[number]!r} matches no parameter{earlier}. "
                f"A rule must match a whole name, such as {near[0]!r}."
            )
    scales = {name: rules[number].scale for name, number in first.items() if number is not None}
    for other in dict.fromkeys(tied.values()):
        _share(scales, [other, *(name for name, same in tied.items() if same == other)])
    return {name: scales.get(name, 1.0) for name in names}


def _share(scales: dict[str, float], group: Sequence[str]) -> None:
    """Give all names of one matrix the scale that some of them have."""
    found = {name: scales[name] for name in group if name in scales}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{name}={scale:g}" for name, scale in found.items())
        raise ConfigError(
            f"layers: the rules give {listed}, but these names are one matrix, which the model uses several times. "
            "Give all the same number."
        )
    scales.update(dict.fromkeys(group, next(iter(found.values()), 1.0)))


def _parse(rule: str) -> LayerRule:
    pattern, equals, number = rule.rpartition("=")
    try:
        compiled, scale = re.compile(pattern), float(number)
    except (re.error, ValueError):
        equals = ""
    if not (equals and pattern and math.isfinite(scale)):
        raise ConfigError(
            f'layers: {rule!r} is no rule. Write "<regular expression>=<number>", as "encoder.layer.1[.].*=0.5".'
        )
    return LayerRule(compiled, scale)
