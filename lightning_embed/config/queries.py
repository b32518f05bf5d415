"""Facts that other rooms ask of a config."""

from omegaconf import DictConfig, ListConfig, OmegaConf


def measures_dev(config: DictConfig) -> bool:
    """Whether the job measures dev scores, which are what a search maximises."""
    own = config.evaluation.get("local", config.evaluation)
    of_dev = "dev" in own.get("splits", ()) or config.evaluation.get("split") == "dev"
    return of_dev and has_tests(config) and OmegaConf.select(config, "experts.only") is None


def num_ranks(config: DictConfig) -> int | None:
    """How many processes will train; None: known only on the machine (auto)."""
    devices = OmegaConf.select(config, "trainer.devices", default=1)
    if isinstance(devices, (ListConfig, list)):
        devices = len(devices)
    nodes: int = OmegaConf.select(config, "trainer.num_nodes", default=1)
    return devices * nodes if isinstance(devices, int) and devices > 0 else None


def has_tests(cfg: DictConfig) -> bool:
    """Whether there is anything to measure on: datasets, or tasks of mteb."""
    return bool(cfg.data.datasets or cfg.evaluation.get("tasks") or cfg.evaluation.get("benchmark"))
