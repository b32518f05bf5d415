"""The ranks share the texts of an evaluation: the same bits as one process."""

from pathlib import Path

import pytest
import torch

from lightning_embed.run.service import _picked
from lightning_embed.types import Tokens
from tests.run.machines import ROOT, environment, free_port, run, torchrun


def test_the_texts_of_some_chunks() -> None:
    tokens = Tokens.of([[1], [2, 3], [4, 5, 6], [7]])
    picked = _picked(
        Tokens(tokens.ids, tokens.offsets, torch.tensor([0, 1, 2, 3])), [torch.tensor([2, 0]), torch.tensor([3])]
    )
    assert picked["tokens"].ids.tolist() == [4, 5, 6, 1, 7]
    assert picked["tokens"].offsets.tolist() == [0, 3, 4, 5]
    assert picked["tokens"].prompts.tolist() == [2, 0, 3]
    assert [chunk.tolist() for chunk in picked["chunks"]] == [[0, 1], [2]]


@pytest.mark.slow
def test_two_ranks_embed_what_one_does(tiny_model: Path, tmp_path: Path) -> None:
    script = ["-m", "tests.run.two_ranks_serve", str(tiny_model), str(tmp_path)]
    command = [*torchrun("--nproc_per_node=2", f"--master_port={free_port()}"), *script]
    ((status, _, errors),) = run([command], [environment()], ROOT)
    assert status == 0, errors
    first, second, alone, changed = torch.load(tmp_path / "embeddings.pt", weights_only=True)
    assert torch.equal(first, alone)
    assert torch.equal(second, changed)
    chunks, ran = (int((tmp_path / name).read_text()) for name in ("chunks", "ran"))
    assert ran >= chunks // 2 > 3, "the other rank had its share"
