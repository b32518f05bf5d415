"""A training that is measured; notes which texts each rank encodes. Run alone, or by torchrun in several processes.

python -m tests.callback.two_ranks_measure MODEL DATA OUT
"""

import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_embed.callback import WhileTraining
from lightning_embed.evaluation import Local
from lightning_embed.runtime import distributed
from tests.callback.toy import fit, toy_training

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    model, data, out = map(Path, sys.argv[1:])
    module, batches = toy_training(model, data)
    module.on_train_start = module.eval  # dropout differs between ranks
    encode, seen = module.encoder.encode, []

    class Noting(WhileTraining):
        """Begins a list of texts with every measurement."""

        def _measure(self, pl_module: Any) -> Any:
            seen.append([])
            return super()._measure(pl_module)

    def note(texts: Sequence[str], *, prompt: str | None, max_length: int | None) -> Any:
        """Encode."""
        seen[-1] += [[prompt, text] for text in texts]
        return encode(texts, prompt=prompt, max_length=max_length)

    module.encoder.encode = note
    watch = Noting(Local(), every_n_steps=1, keep_best=True)
    fit(module, batches, out, watch, ranks=int(os.environ.get("WORLD_SIZE", 1)))
    if distributed.rank() == 0:
        watch.finish(module.encoder, 4, out / "choice.json")
    (out / f"texts-{distributed.rank()}.json").write_text(json.dumps(seen))
