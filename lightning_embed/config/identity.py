"""Hashes that name folders and caches: of words, options and the content of files, never of a Python path."""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lightning_embed.config.values import plain
from lightning_embed.data.options import TRAINING_ONLY
from lightning_embed.experts import Expert
from lightning_embed.runtime.seeding import derive_seed

TRAINED_BY = (
    "seed", "encoder", "data", "mining", "sampler", "experts", "retrieval_loss", "sts_loss", "label_loss", "optimizer", "scheduler",
    "max_grad_norm", "trainer", "sources", "base",
)  # fmt: skip


_NOT_TRAINED_BY = {
    "experts": {"only"},
    "data": {"num_workers", "pin_memory"},
    "trainer": {
        "accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps", "enable_checkpointing", "enable_progress_bar", "profiler",
        "val_check_interval", "check_val_every_n_epoch", "limit_val_batches", "num_sanity_val_steps", "benchmark",
        "enable_model_summary",
    },
}  # fmt: skip


def run_hash(config: DictConfig) -> str:
    """Eight letters that change with everything that changes the experts of a run, and with nothing else.

    Interpolations count as they are written: a folder that they resolve to may differ between machines. What they name in
    `let` counts too.
    """
    written: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    part: dict[str, Any] = {key: written[key] for key in ("recipe", "compare") if written.get(key)}
    if own := {k: v for k, v in (written.get("callback") or {}).items() if not _only_watches(v)}:
        part["callback"] = own
    for key in TRAINED_BY:
        if key not in config or OmegaConf.is_missing(config, key):
            continue
        node = written[key]
        part[key] = (
            {k: v for k, v in node.items() if k not in _NOT_TRAINED_BY.get(key, ())} if isinstance(node, dict) else node
        )
    text = json.dumps(part, default=str)
    if named := {name: value for name, value in (written.get("let") or {}).items() if f"${{let.{name}}}" in text}:
        part["let"] = named
    return digest(part)


def _only_watches(callback: Mapping[str, Any]) -> bool:
    """Whether a callback cannot change the training: ours, unless told to choose a step, and progress bars."""
    target = str(callback.get("_target_"))
    if callback.get("keep_best") or callback.get("patience") is not None:
        return False
    return target.startswith("lightning_embed.callback.") or target.endswith("ProgressBar")


def digest(value: Any) -> str:
    """Eight letters that stand for a plain value."""
    return blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=4).hexdigest()


def evaluation_hash(cfg: DictConfig) -> str:
    """Changes with how models are measured; not with the seed, which draws dev sets: recipes are compared over seeds."""
    tests = {
        name: {key: value for key, value in options.items() if key not in TRAINING_ONLY}
        for name, options in plain(cfg.data.datasets).items()
    }
    return digest([plain(cfg.evaluation), tests])


def job_hash(command: str, cfg: DictConfig) -> str:
    """Eight letters that stand for the resolved config of a job, and for the version that did it."""
    from lightning_embed import __version__

    resolved = plain(cfg, as_words=True)
    return digest([command, __version__, {k: v for k, v in resolved.items() if k not in ("part", "group")}])


def training_seed(cfg: DictConfig, expert: Expert) -> int:
    """The seed of an expert's order of rows, drawn texts and dropout."""
    return int(cfg.seed) if expert.seed == 0 else derive_seed(cfg.seed, "expert", expert.seed)
