"""A training run: `prepare`, then `inspect` or `execute`."""

import logging
import warnings

from omegaconf import DictConfig

from lightning_embed.config.queries import is_first
from lightning_embed.experts import Jobs
from lightning_embed.run import expert_jobs, ranks
from lightning_embed.run.execute import execute
from lightning_embed.run.inspect import inspect
from lightning_embed.run.prepare import prepare
from lightning_embed.runtime import launched
from lightning_embed.storage import mirroring

# Hints and deprecation warnings of Lightning do not concern the user of a run.
for room in ("pytorch", "fabric"):
    logging.getLogger(f"lightning.{room}").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module=r"lightning\.")


def train(cfg: DictConfig) -> float | None:
    """Train the experts of a run, merge them and evaluate all models. Returns the `optimized_metric`, in points.

    Raises:
        LightningEmbedError: an error that the user can fix, raised before the first batch, except for disk failures.
    """
    if cfg.inspect:
        inspect(prepare(cfg))
        return None
    if cfg.experts.jobs == Jobs.launcher and launched.is_first():
        expert_jobs.check_start(cfg)
        expert_jobs.train_experts(prepare(cfg))
    mirror = cfg.mirror if is_first(cfg) else None
    with ranks.together(ranks.of_training(cfg)), mirroring.of_run(mirror, cfg.experts.only):
        return execute(prepare(cfg))
