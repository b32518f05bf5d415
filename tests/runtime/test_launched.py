"""The place of a process among those that a launcher started."""

import pytest
from omegaconf import OmegaConf

from lightning_embed.config.queries import is_first
from lightning_embed.runtime import launched

VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_NAME"),
    *("JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK"),
)

PLACES = [
    ({}, True),
    ({"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True),
    ({"RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1"}, False),
    ({"RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),  # torchrun, first of the second machine
    ({"RANK": "0", "SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, True),  # torchrun inside of srun
    ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, True),
    ({"SLURM_NTASKS": "4", "SLURM_PROCID": "3"}, False),
    ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "LOCAL_RANK": "1"}, True),
    ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "bash", "LOCAL_RANK": "1"}, False),
    ({"SLURM_PROCID": "1"}, True),  # left over: without tasks, srun did not start it
    ({"NODE_RANK": "0"}, True),
    ({"NODE_RANK": "1"}, False),  # started by hand on two machines
    ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
    ({"LOCAL_RANK": "1"}, False),  # Lightning's second process
    ({"JSM_NAMESPACE_RANK": "2"}, False),
    ({"OMPI_COMM_WORLD_RANK": "1"}, False),
]


@pytest.mark.parametrize(("variables", "expected"), PLACES, ids=[" ".join(each) or "none" for each, _ in PLACES])
def test_the_first_of_those_that_train(
    variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched.is_first() == expected
    trainer = {"devices": 2, "num_nodes": 1}
    assert is_first(OmegaConf.create({"trainer": trainer})) == expected
    assert is_first(OmegaConf.create({"trainer": {**trainer, "devices": "auto"}})) == expected
    assert is_first(OmegaConf.create({"trainer": {**trainer, "devices": 1}})), "who trains alone is the first"
