"""`run.yaml`: what a folder was made from."""

import platform
import shutil
import subprocess
import sys
import uuid
from importlib.metadata import version
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lightning_embed import registry
from lightning_embed.config.identity import run_hash
from lightning_embed.config.values import told
from lightning_embed.errors import ConfigError
from lightning_embed.storage.atomic import write_whole

_PACKAGES = ("lightning-embed", "torch", "lightning", "transformers", "mteb")


def claim(cfg: DictConfig, out: Path) -> None:
    """Refuse a folder that holds the models of another config.

    Raises:
        ConfigError: naming both hashes.
    """
    file, own = out / "run.yaml", run_hash(cfg)
    if file.exists() and (other := OmegaConf.select(OmegaConf.load(file), "hash")) != own:
        raise ConfigError(
            f"{out} holds another run (its config has the hash {other}, this one {own}): give another out=."
        )


def write(cfg: DictConfig, out: Path) -> None:
    """Write run.yaml, whole or not at all.

    Raises:
        ConfigError: the folder holds the models of another config.
    """
    claim(cfg, out)
    run = {
        "hash": run_hash(cfg),
        "id": identity(out) or uuid.uuid4().hex[:8],
        "command": sys.argv[0],
        "overrides": overrides(),
        "git": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "plugins": {entry.name: entry.cls.__module__ for entry in registry.entries("merge")},
        "config": told(cfg),
    }
    write_whole(out / "run.yaml", OmegaConf.to_yaml(OmegaConf.create(run)))


def overrides() -> list[str]:
    """What the command line changed, as it was typed."""
    if not HydraConfig.initialized():
        return []
    found: list[str] = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # type: ignore[assignment]
    return found


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def identity(out: Path) -> str | None:
    """What stands for a folder as long as it lasts, and for no other; None: there is no run.yaml yet.

    The same command of another user, or after the folder was deleted, must not go on in the logged runs of this one.
    """
    file = out / "run.yaml"
    found: str | None = OmegaConf.select(OmegaConf.load(file), "id") if file.exists() else None
    return found


def _git_commit() -> str | None:
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
