"""A training run: `prepare`, then `inspect` or `execute`."""

import logging
import warnings

from omegaconf import DictConfig

from lightning_embed.run.execute import execute
from lightning_embed.run.inspect import inspect
from lightning_embed.run.prepare import prepare

# Lightning's remarks on itself, and on deprecations of its own, are not for the user of a run.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module=r"lightning\.")


def train(cfg: DictConfig) -> float | None:
    """Train the experts of a run, merge them, measure all. Returns the `optimized_metric`, in points.

    Raises:
        LightningEmbedError: whatever a user can mend; all of it before the first batch, except for failing disks.
    """
    prepared = prepare(cfg)
    if cfg.inspect:
        inspect(prepared)
        return None
    return execute(prepared)
