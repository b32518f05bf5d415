"""The place of this process among those that a launcher started, known before torch is imported and a group exists."""

import os


def rank() -> int:
    """Rank that the launcher gave to this process; 0 without a launcher."""
    return next((int(os.environ[name]) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), 0)
