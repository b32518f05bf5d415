import math
from pathlib import Path

import pytest
import torch

from lightning_embed.merge import Source, gram_matrices
from lightning_embed.merge.checkpoint import ModelDirectory
from lightning_embed.merge.geometry import Sums, measure, summarise
from lightning_embed.merge.stream import Block, read_blocks
from tests.merge import toy


def test_values_a_human_can_check() -> None:
    base = torch.tensor([1.0, 1.0, 1.0, 1.0])
    deltas = torch.tensor([[3.0, 4.0, 0.0, 0.0], [3.0, -4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = summarise({"a": measure(Block("a", 0, base + deltas, base))})
    assert found.delta_norms == [5, 5, 0]
    assert found.source_norms == pytest.approx([math.sqrt(16 + 25 + 2), math.sqrt(16 + 9 + 2), 2])
    assert found.delta_cosines[0] == pytest.approx([1, -7 / 25, 0])
    assert found.delta_cosines[2] == [0, 0, 0]  # a zero delta has no direction
    assert found.sign_conflict_share == 1 / 4


def test_blocks_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_embed.merge.stream.BLOCK_ELEMENTS", 13)
    base, sources = toy.family(3)
    models = [
        ModelDirectory.open(Source(toy.write(tmp_path / f"{number}", tensors), f"{number}"))
        for number, tensors in enumerate([*sources, base])
    ]
    total = Sums.zero(3)
    for name in models[0].parameters:
        for block in read_blocks(name, models[:3], models[3]):
            total += measure(block)
    deltas = torch.stack([toy.vector(source) - toy.vector(base) for source in sources])
    found = summarise({"all": total})
    assert found.delta_norms == pytest.approx(deltas.norm(dim=1).tolist())
    cosines = torch.nn.functional.cosine_similarity(deltas[:, None], deltas[None], dim=2)
    torch.testing.assert_close(torch.tensor(found.delta_cosines), cosines.float())
    conflicts = ((deltas > 0).any(0) & (deltas < 0).any(0)).double().mean()
    assert found.sign_conflict_share == pytest.approx(float(conflicts))
    grams = gram_matrices(models[:3], models[3])
    torch.testing.assert_close(torch.stack(list(grams.values())).sum(0), deltas @ deltas.T, rtol=1e-6, atol=1e-6)


def test_float64_where_float32_loses_the_angle() -> None:
    torch.manual_seed(0)
    base = torch.randn(60_000)
    sources = torch.stack([base + 1e-4 * torch.randn(60_000), base + 1e-4 * torch.randn(60_000)])
    gram = summarise({"a": measure(Block("a", 0, sources, None))}).delta_cosines
    exact = sources.double() / sources.double().norm(dim=1, keepdim=True)
    angle = 2 * math.asin(float((exact[0] - exact[1]).norm()) / 2)
    assert math.acos(gram[0][1]) == pytest.approx(angle, rel=1e-4)
