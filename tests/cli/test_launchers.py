"""What our words for Hydra's launchers change, and where a job works."""

import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write

from lightning_embed.cli import launch
from lightning_embed.config import schema


@pytest.fixture(autouse=True)
def _hydra():
    GlobalHydra.instance().clear()
    before = HydraConfig.instance().cfg
    with initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())):
        yield
    HydraConfig.instance().cfg = before


def _composed(*overrides: str) -> DictConfig:
    return compose("train", list(overrides), return_hydra_config=True)


def test_a_ray_cluster_is_not_given_a_size() -> None:
    """The plugin adds a size of the object store, as here, where there is no such key; a cluster that runs refuses one."""
    given = "hydra.launcher.ray.init.address=node1:6379", "hydra.launcher.ray.remote.num_gpus=1"
    ray = _composed("hydra/launcher=ray_cluster", *given).hydra.launcher.ray
    assert ray.init.setdefault("object_store_memory", 78643200) is None
    assert dict(ray.init) == {"address": "node1:6379", "object_store_memory": None}
    assert dict(ray.remote) == {"num_cpus": None, "num_gpus": 1}
    assert _composed("hydra/launcher=ray_cluster").hydra.launcher.ray.init.address == "auto"


@pytest.mark.parametrize("chdir", [None, True])
def test_a_job_works_where_its_command_was_typed(
    chdir: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (typed := tmp_path / "typed").mkdir()
    (worker := tmp_path / "worker").mkdir()
    monkeypatch.chdir(worker)
    config = _composed()
    with read_write(config), open_dict(config.hydra):
        config.hydra.runtime.cwd = str(typed)
        config.hydra.job.chdir = chdir
    HydraConfig.instance().set_config(config)
    launch._enter_folder()
    assert os.getcwd() == str(worker if chdir else typed), "Hydra's own hydra.job.chdir stays"
