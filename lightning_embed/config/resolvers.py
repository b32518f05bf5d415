"""OmegaConf resolvers of the YAML files in conf/: ${run_hash:}, ${package_file:...}, ${case:...} and ${oc.env:X}, among them."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lightning_embed.config.identity import run_hash
from lightning_embed.config.secrets import register_environment
from lightning_embed.config.sweep_context import sweep_folder
from lightning_embed.errors import ConfigError


def register_resolvers() -> None:
    """Register all resolvers with OmegaConf."""
    register_environment()
    OmegaConf.register_new_resolver("run_hash", _run_hash, replace=True)
    OmegaConf.register_new_resolver("package_file", _package_file, replace=True)
    OmegaConf.register_new_resolver("sweep_group", _sweep_group, replace=True)
    OmegaConf.register_new_resolver("case", _case, replace=True)


def _run_hash(*, _root_: DictConfig) -> str:
    return run_hash(_root_)


def _sweep_group(own: str) -> str:
    """The name of the sweep's folder; `own` outside a sweep."""
    return own if (folder := sweep_folder()) is None else folder.name


def _case(word: object, values: Mapping[str, Any], other: Any = None) -> Any:
    """The value of a word: ${case:${encoder.pooling},{cls: 1, mean: 2},0}; `other` for a word without one."""
    return values.get(str(word), other)


def _package_file(package: str, path: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"The package {package} is not installed: pip install 'lightning-embed[quickstart]', "
            "or choose another encoder."
        )
    return str(Path(spec.submodule_search_locations[0]) / path)
