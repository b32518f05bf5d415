"""All that the tests of this room compare with one process, computed by two: a start takes longer than the steps.

torchrun --nproc_per_node=2 -m tests.training.pair MODEL DATA OUT
"""

import sys
import warnings
from pathlib import Path

import torch

from lightning_embed.config.schema import register
from lightning_embed.runtime import launched
from tests.training import parity, two_processes

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    register()
    model, data, out = map(Path, sys.argv[1:])
    steps = parity.measured(model)
    trainings = {n: two_processes.trained(model, data, out / "cache", n) for n in two_processes.ACCUMULATE}
    if launched.is_first():
        torch.save({"steps": steps, "trainings": trainings}, out / "pair.pt")
