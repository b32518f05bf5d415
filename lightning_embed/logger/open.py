"""Opening and closing of the loggers of one part of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from lightning_embed.config import run_yaml
from lightning_embed.config.components import instantiated, refusals_of
from lightning_embed.config.values import shown_config
from lightning_embed.storage.checksum import digest


@contextmanager
def open_loggers(cfg: DictConfig, name: str, kind: str) -> Iterator[list[Logger]]:
    """The loggers of one part of a run (an expert, or merge + evaluation), closed at the end of the part.

    The YAML of a logger reads the part's name, kind and id from `part`.
    """
    part = {
        "name": name,
        "kind": kind,
        "id": f"{digest([cfg.group, cfg.out, run_yaml.folder_id(Path(cfg.out))])}-{name}",
    }
    filled = OmegaConf.merge(cfg, {"part": part})
    built: list[Logger] = []
    status = "failed"
    try:
        for logger_name, node in filled.logger.items():
            built.append(instantiated(f"logger.{logger_name}", node))
            with refusals_of(f"logger.{logger_name}"):  # some look at their options when they first write
                built[-1].log_hyperparams(_searchable(cfg))
        yield built
        status = "success"
    finally:
        for logger in built:
            logger.finalize(status)
            finish = getattr(getattr(logger, "experiment", None), "finish", None)  # of wandb
            if finish is not None:
                finish(exit_code=int(status == "failed"))


def _searchable(cfg: DictConfig) -> dict[str, Any]:
    """The keys for filtering, grouping and colouring runs: the word of every choice, and every plain value of the root.

    For example, `merge` is `soup` and `seed` is 42. The whole resolved config is under `options`.
    """
    resolved = shown_config(cfg)
    resolved.pop("part", None)
    typed = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    choices = {
        key.rpartition("@")[2]: word for key, word in typed.items()
    }  # a preset's word is more precise than its class
    words = {key: choices.get(key, node.get("name")) for key, node in resolved.items() if isinstance(node, dict)}
    values = {key: value for key, value in resolved.items() if not isinstance(value, (dict, list))}
    experiment = {"experiment": choices.get("experiment")}
    return {k: v for k, v in {**values, **words, **experiment}.items() if v is not None} | {"options": resolved}
