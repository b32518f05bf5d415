"""Check of all numbers of a config."""

from omegaconf import DictConfig

from lightning_embed import registry
from lightning_embed.config.identity import resolved_hash
from lightning_embed.config.values import plain

# as the words of rooms are by `registry.build`
_BOUNDED = ("encoder", "parameter_groups", "mining", "teacher", "probe", "doctor")


def bad_numbers(config: DictConfig) -> list[str]:
    """One sentence for each NaN and infinity, and, in options of our own, for each number at the ends of float32."""
    with resolved_hash(""):
        options = plain(config)
    bounds = dict.fromkeys(_BOUNDED, (registry.LEAST, registry.MOST))
    return [
        problem
        for key, value in options.items()
        for problem in registry.number_problems(key, value, *bounds.get(key, ()))
    ]
