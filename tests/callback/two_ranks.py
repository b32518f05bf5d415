"""A watched training; run alone, or by torchrun in several processes.

python -m tests.callback.two_ranks MODEL DATA OUT
"""

import os
import sys
import warnings
from pathlib import Path

from lightning_embed.callback import GradientConflict
from tests.callback.toy import fit, toy_training

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    model, data, out = map(Path, sys.argv[1:])
    conflicts = GradientConflict(every_n_steps=2), GradientConflict(every_n_steps=3, by="dataset", num_batches=2)
    fit(*toy_training(model, data), out, *conflicts, ranks=int(os.environ.get("WORLD_SIZE", 1)))
