"""What a config says of measuring: whether there is anything to measure on, and what must be equal to compare scores."""

from omegaconf import DictConfig

from lightning_embed.config import digest, plain
from lightning_embed.data.options import TRAINING_ONLY


def has_tests(cfg: DictConfig) -> bool:
    """Whether there is anything to measure on: datasets, or tasks of mteb."""
    return bool(cfg.data.datasets or cfg.evaluation.get("tasks") or cfg.evaluation.get("benchmark"))


def evaluation_hash(cfg: DictConfig) -> str:
    """Changes with how models are measured; not with the seed, which draws dev sets: recipes are compared over seeds."""
    tests = {
        name: {key: value for key, value in options.items() if key not in TRAINING_ONLY}
        for name, options in plain(cfg.data.datasets).items()
    }
    return digest([plain(cfg.evaluation), tests])
