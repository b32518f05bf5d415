"""The embeddings of a teacher by several ranks. torchrun --nproc_per_node=2 -m tests.run.ranks_teach MODEL TOY OUT"""

import sys
from dataclasses import replace
from pathlib import Path

from lightning_embed.config import schema
from lightning_embed.run import build, ranks, teacher
from lightning_embed.runtime import distributed
from tests.run.test_train import _cfg, _overrides


def main(model: Path, toy: Path, out: Path) -> None:
    schema.register()
    given = ("teacher=base", "loss@retrieval_loss=distill_embeddings")
    options = teacher._encoder_options
    teacher._encoder_options = lambda given: replace(options(given), max_tokens=48)  # many chunks
    with ranks.together(ranks.of_torchrun()):
        ranks.form_group()
        ran, own = [], distributed.collected
        distributed.collected = lambda part: (ran.append(len(part)), own(part))[1]
        cfg = _cfg("train", _overrides(model, toy, out / "run", *given))
        found = teacher.vectors([cfg], build.datasets(cfg))
        assert found is not None
        assert found.dim == 32
        if distributed.rank() == 1:
            (out / "ran").write_text(f"{sum(ran)}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
