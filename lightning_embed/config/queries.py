"""Facts about a config that several parts of the package need."""

from omegaconf import DictConfig, ListConfig, OmegaConf

from lightning_embed.runtime import launched


def measures_dev(config: DictConfig) -> bool:
    """Whether the job measures dev scores, which a search maximises."""
    own = config.evaluation.get("local", config.evaluation)
    of_dev = "dev" in own.get("splits", ()) or config.evaluation.get("split") == "dev"
    return of_dev and has_tests(config) and OmegaConf.select(config, "experts.only") is None


def num_ranks(config: DictConfig) -> int | None:
    """The number of processes that will train; None: known only at run time (auto)."""
    devices = OmegaConf.select(config, "trainer.devices", default=1)
    if isinstance(devices, (ListConfig, list)):
        devices = len(devices)
    nodes: int = OmegaConf.select(config, "trainer.num_nodes", default=1)
    return devices * nodes if isinstance(devices, int) and devices > 0 else None


def is_first(config: DictConfig) -> bool:
    """Whether this process is the first of those that train, known before they form a group.

    One process that trains alone is the first, wherever a cluster has counted it.
    """
    return num_ranks(config) == 1 or launched.is_first()


def has_tests(cfg: DictConfig) -> bool:
    """Whether a config has anything to evaluate on: datasets, or tasks of mteb."""
    return bool(cfg.data.datasets or cfg.evaluation.get("tasks") or cfg.evaluation.get("benchmark"))
