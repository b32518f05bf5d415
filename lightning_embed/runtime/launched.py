"""The place of this process among those that a launcher started, known before torch is imported and a group exists."""

import os

_RANKS = ("JSM_NAMESPACE_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")


def is_first() -> bool:
    """Whether a launcher started this process as the first; True without a launcher.

    Launchers in Lightning's order: torchrun, srun, jsrun, mpirun, Lightning's own on each of several machines.
    """
    variables = os.environ
    if "RANK" in variables:
        return variables["RANK"] == "0"
    # as in Lightning: tasks of jobs with these names were not started by srun
    if "SLURM_NTASKS" in variables and variables.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return variables.get("SLURM_PROCID", "0") == "0"
    return all(variables.get(name, "0") == "0" for name in _RANKS)


def by_torchrun() -> int:
    """Number of processes that torchrun started, which work together; 1: it did not start this one."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1
