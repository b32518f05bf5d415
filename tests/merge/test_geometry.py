import math
from functools import reduce
from pathlib import Path

import pytest
import torch

from lightning_embed.merge import Source, gram_matrices
from lightning_embed.merge.blocks.stream import Block, read_blocks
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.diagnosis.geometry import Sums, effective_directions, measure, summarise
from tests.merge import toy


def test_values_a_human_can_check() -> None:
    base = torch.tensor([1.0, 1.0, 1.0, 1.0])
    deltas = torch.tensor([[3.0, 4.0, 0.0, 0.0], [3.0, -4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    merged = base + torch.tensor([0.0, 2.0, 0.0, 0.0])
    found = summarise({"a": measure(Block("a", 0, base + deltas, base), merged)})
    assert found.base_norm == 2
    assert found.delta_norms == [5, 5, 0]
    assert found.delta_cosines[0] == pytest.approx([1, -7 / 25, 0])
    assert found.delta_cosines[2] == [0, 0, 0]  # a zero delta has no direction
    assert found.pair_cosines == pytest.approx([-7 / 25, 0, 0])
    assert found.sign_conflict_share == 1 / 2  # of the two elements that moved
    assert found.merged_norm == 2
    assert found.merged_cosines == pytest.approx([4 / 5, -4 / 5, 0])
    shares = [16 / 25, 9 / 25]  # eigenvalues 1 +- 7/25
    assert found.effective_directions == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))


def test_directions_do_not_depend_on_lengths() -> None:
    assert effective_directions(torch.eye(4).double()) == pytest.approx(4)
    assert effective_directions(torch.ones(4, 4).double()) == pytest.approx(1)
    assert effective_directions(torch.zeros(4, 4).double()) == 0
    long = torch.diag(torch.tensor([1.0, 100.0]))
    found = summarise({"a": measure(Block("a", 0, long, torch.zeros(2)))})
    assert found.effective_directions == pytest.approx(2)


def test_without_a_base_and_without_a_merged_model() -> None:
    found = summarise({"a": measure(Block("a", 0, torch.tensor([[3.0, 4.0], [4.0, 3.0]]), None))})
    assert (found.base_norm, found.delta_norms) == (0, [5, 5])
    assert found.pair_cosines == pytest.approx([24 / 25])
    assert found.merged_norm is found.merged_cosines is None


def test_layers_come_in_their_order_and_add_up_to_the_whole() -> None:
    def part(value: float) -> Sums:
        return measure(Block("a", 0, torch.tensor([[value], [0.0]]), torch.tensor([0.0])))

    names = ["pooler", "encoder.layer.10", "encoder.layer.9", "embeddings"]
    found = summarise({name: part(2.0) for name in names}, {"encoder.layer.9.weight": [3.0, 1.0]})
    assert list(found.groups) == ["embeddings", "encoder.layer.9", "encoder.layer.10", "pooler"]
    assert found.delta_norms == [4, 0]
    assert found.groups["pooler"].delta_norms == [2, 0]
    assert found.groups["encoder.layer.9"].stable_ranks == found.stable_ranks == [3, 1]
    assert found.groups["pooler"].stable_ranks is None


def test_blocks_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_embed.merge.blocks.stream.BLOCK_ELEMENTS", 13)
    base, sources = toy.family(3)
    models = [
        ModelDirectory.open(Source(toy.write(tmp_path / f"{number}", tensors), f"{number}"))
        for number, tensors in enumerate([*sources, base])
    ]
    blocks = [block for name in models[0].parameters for block in read_blocks(name, models[:3], models[3])]
    found = summarise({"all": reduce(Sums.__add__, [measure(block, block.tensors.mean(0)) for block in blocks])})
    deltas = torch.stack([toy.vector(source) - toy.vector(base) for source in sources])
    assert found.base_norm == pytest.approx(float(toy.vector(base).norm()))
    assert found.delta_norms == pytest.approx(deltas.norm(dim=1).tolist())
    cosines = torch.nn.functional.cosine_similarity(deltas[:, None], deltas[None], dim=2)
    torch.testing.assert_close(torch.tensor(found.delta_cosines), cosines.float())
    conflicts = ((deltas > 0).any(0) & (deltas < 0).any(0)).sum() / (deltas != 0).any(0).sum()
    assert found.sign_conflict_share == pytest.approx(float(conflicts))
    merged = deltas.mean(0)
    assert found.merged_norm == pytest.approx(float(merged.norm()))
    toward = torch.nn.functional.cosine_similarity(deltas, merged[None])
    assert found.merged_cosines == pytest.approx(toward.tolist(), rel=1e-6)
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
