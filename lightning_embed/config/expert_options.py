"""The config of one training of a run: that of the run, with the expert's own options in place of it."""

from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from lightning_embed.config.words import chosen
from lightning_embed.experts import Expert

_GROUP = {"retrieval_loss": "loss", "sts_loss": "loss", "label_loss": "loss"}


def config_of(cfg: DictConfig, expert: Expert) -> DictConfig:
    """The config of an expert's training; the run's, if it has no options of its own."""
    return with_options(cfg, expert.options, expert.rows, expert.name) if expert.options else cfg


def with_options(cfg: DictConfig, options: Mapping[str, Any], datasets: Iterable[str], path: str) -> DictConfig:
    """A copy of a config with some options replaced.

    Args:
        cfg: of the run.
        options: by key of the config; `batch_size` is that of all `datasets`.
        datasets: names.
        path: of the options, for messages.

    Raises:
        ConfigError: a word or an option that does not exist.
    """
    own = cfg.copy()
    for key, given in options.items():
        if key == "batch_size":
            for name in datasets:
                own.data.datasets[name].batch_size = given
        elif key == "trainer":
            own.trainer.merge_with(dict(given))
        else:
            found = chosen(f"{path}.{key}", _GROUP.get(key, key), given, own[key])
            with open_dict(own):
                own[key] = OmegaConf.create(found)
    return own
