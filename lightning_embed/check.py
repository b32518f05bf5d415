"""What is wrong with a composed config: everything in one message, before anything is built."""

import sys
from collections.abc import Iterator
from typing import Any, get_origin

from omegaconf import DictConfig, OmegaConf

from lightning_embed.data.options import check_divisible
from lightning_embed.errors import ConfigError, nearest


def check(config: DictConfig, reference: DictConfig, added: set[str]) -> None:
    """Refuse, in one message, every key and value that the groups do not know and every impossible combination.

    Args:
        config: as composed.
        reference: composed from the same groups, without an experiment and without overrides of values.
        added: keys that the user added knowingly (+key=value).

    Raises:
        ConfigError: with one line per problem.
    """
    problems = [*_missing(config), *_unknown(config, reference, added), *_impossible(config)]
    if problems:
        raise ConfigError("\n".join(problems))


def _missing(node: Any, path: str = "") -> Iterator[str]:
    for key in map(str, node) if isinstance(node, DictConfig) else ():
        full = f"{path}.{key}" if path else key
        if OmegaConf.is_missing(node, key):
            yield f"{full} is missing: give it as {full}=..."
        elif not OmegaConf.is_interpolation(node, key):
            yield from _missing(node[key], full)


def _unknown(config: Any, reference: Any, added: set[str], path: str = "") -> Iterator[str]:
    """Keys and types of plain YAML groups (Trainer, optimisers, loggers ...), which have no schema."""
    known = set(map(str, reference))  # `in` of a DictConfig denies missing values
    for key in map(str, config):
        full = f"{path}.{key}" if path else key
        if full in added or OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        if key not in known:
            if not _may_be_new(config[key], reference, full, added):
                yield f"{full}: no such option. {nearest(key, known)}"
        elif OmegaConf.is_missing(reference, key) or OmegaConf.is_interpolation(reference, key):
            continue
        elif isinstance(config[key], DictConfig) and isinstance(reference[key], DictConfig):
            yield from _unknown(config[key], reference[key], added, full)
        elif _is_number(reference[key]) and isinstance(config[key], str):
            yield f"{full} must be a number like {reference[key]}, got {config[key]!r}."


def _may_be_new(value: Any, parent: DictConfig, full: str, added: set[str]) -> bool:
    """A name in a dictionary (datasets, prompts, columns), one more component, or what the user added with a +."""
    if get_origin(parent._metadata.ref_type) is dict or any(name.startswith(f"{full}.") for name in added):
        return True
    return isinstance(value, DictConfig) and "_target_" in value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _impossible(config: DictConfig) -> Iterator[str]:
    metric = config.optimized_metric
    known = [f"dev/{key}" for key in ("mean", "retrieval", "sts", "classification", "clustering")]
    if metric not in known:
        why = "the test is read once, after every choice" if metric.startswith("test") else "no such metric"
        yield f"optimized_metric={metric}: {why}. Use {', '.join(known)}."
    if config.out_dtype not in ("float32", "bfloat16", "float16"):
        yield f"out_dtype={config.out_dtype}: use float32, bfloat16 or float16."
    devices = OmegaConf.select(config, "trainer.devices")
    if {"-m", "--multirun"} & set(sys.argv) and isinstance(devices, int) and devices > 1:
        yield "Several devices in a sweep: every process of a job would start the sweep again. Use trainer.devices=1 per job."
    if isinstance(devices, int) and not OmegaConf.is_missing(config.data, "datasets"):
        for name, options in config.data.datasets.items():
            try:
                check_divisible(name, options.batch_size, devices * config.trainer.num_nodes)
            except ConfigError as error:
                yield str(error)
