"""An embedding of texts that the ranks share, and by rank zero alone. torchrun --nproc_per_node=2 -m tests.run.two_ranks_serve MODEL OUT"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from lightning_embed.run import ranks, service
from lightning_embed.run.build import Loader
from lightning_embed.runtime import distributed
from tests.conftest import WORDS

TEXTS = [" ".join(WORDS[(7 * text + word) % len(WORDS)] for word in range(1 + text % 11)) for text in range(300)]


class Small(Loader):
    """Cuts texts into many chunks."""

    def __call__(self, path: Path):
        model = super().__call__(path)
        model.options = replace(model.options, max_tokens=48)
        return model


def main(path: Path, out: Path) -> None:
    with ranks.together(ranks.of_torchrun()):
        ranks.form_group()
        load, ran = Small({}, "cpu"), []
        if distributed.rank() != 0:
            own = distributed.collected
            distributed.collected = lambda part: (ran.append(len(part)), own(part))[1]
            service.serve()
            (out / "ran").write_text(f"{sum(ran)}")
            return
        with service.lead():
            model = load(path)
            found = [model.encode(TEXTS)]
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.5)
            model.shares.send_weights(model)
            found.append(model.encode(TEXTS, max_length=8))
        model.shares = None
        (out / "chunks").write_text(f"{len(model.chunks(model.tokenizer(TEXTS)))}")
        alone = [load(path).encode(TEXTS), model.encode(TEXTS, max_length=8)]
        torch.save([*found, *alone], out / "embeddings.pt")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
