import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_embed.errors import CheckpointError
from lightning_embed.merge import Cut, Source, num_kept, thresholds
from lightning_embed.merge.blocks import stream
from lightning_embed.merge.blocks.stream import Block
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.methods.thresholds import order_statistics
from tests.merge import toy


def _found(rows: Tensor, ranks: list[int], block: int, sample: Tensor) -> Tensor:
    blocks = list(rows.split(block, dim=1))
    return torch.tensor(order_statistics(lambda: blocks, ranks, [sample], rows.shape[1]))


def _expected(rows: Tensor, ranks: list[int]) -> Tensor:
    return rows.sort(dim=1, descending=True).values[:, [rank - 1 for rank in ranks]]


@pytest.mark.parametrize("size", [1, 2, 3, 64, 1000])
@pytest.mark.parametrize("digits", [1, 6], ids=["many equal", "few equal"])
@pytest.mark.parametrize("block", [7, 10_000])
@pytest.mark.parametrize("step", [1, 5, 1000])
def test_reference_sorting(size: int, digits: int, block: int, step: int) -> None:
    torch.manual_seed(size)
    rows = torch.randn(3, size).abs().round(decimals=digits)
    rows[1] = 0
    ranks = sorted({1, (size + 1) // 2, size})
    assert torch.equal(_found(rows, ranks, block, rows[:, ::step]), _expected(rows, ranks))


@pytest.mark.parametrize("value", [0.0, 0.5, 0.9, 9.0])
def test_sample_that_is_not_like_the_rest(value: float) -> None:
    torch.manual_seed(0)
    rows = torch.rand(2, 1000)
    rows[:, :50] = 0.9
    ranks = [1, 110, 160, 900]
    assert torch.equal(_found(rows, ranks, 64, torch.full((2, 500), value)), _expected(rows, ranks))


def test_neighbouring_floats_and_extremes() -> None:
    one = torch.tensor(1.0)
    rows = torch.stack([one, one.nextafter(torch.tensor(2.0)), torch.tensor(1e-45), torch.tensor(3e38), one * 0])[None]
    assert torch.equal(_found(rows, [1, 2, 3, 4, 5], 5, rows), _expected(rows, [1, 2, 3, 4, 5]))


@pytest.mark.parametrize("distinct", [False, True], ids=["halves", "floats"])
def test_large_parameters_keep_little(distinct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    base = {"w": torch.zeros(700, 768)}
    source = {"w": torch.randn(700, 768) * torch.linspace(0.1, 3, 768) * torch.linspace(0.2, 1, 700)[:, None]}
    if not distinct:
        source = {"w": (source["w"] * 8).round() / 8}
    kept = []
    concatenate = np.concatenate
    monkeypatch.setattr(np, "concatenate", lambda parts: kept.append(sum(map(len, parts))) or concatenate(parts))
    found = thresholds([toy.InMemory(source)], toy.InMemory(base), lambda numel: [numel // 5])
    assert found["w"] == _expected(source["w"].abs().view(1, -1), [700 * 768 // 5]).tolist()
    assert len(kept) == 2, "a sample, and one pass"
    assert kept[1] < 0.08 * 700 * 768


def test_thresholds_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", 13)
    base, sources = toy.family(2)
    models = [
        ModelDirectory.open(Source(toy.write(tmp_path / f"{number}", tensors), f"{number}"))
        for number, tensors in enumerate([*sources, base])
    ]
    found = thresholds(models[:2], models[2], lambda numel: [num_kept(numel, 0.2)])
    for name, shape in models[0].parameters.items():
        deltas = torch.stack([(source[name] - base[name]).abs().flatten() for source in sources])
        expected = deltas.sort(dim=1, descending=True).values[:, max(1, round(0.2 * shape.numel())) - 1]
        assert torch.equal(torch.tensor(found[name]).squeeze(1), expected)


@pytest.mark.parametrize(
    ("numel", "density", "kept"), [(64, 0.9, 58), (3, 0.1, 1), (1, 0.5, 1), (10, 0.0, 1), (5, 1.0, 5)]
)
def test_something_is_always_kept(numel: int, density: float, kept: int) -> None:
    assert num_kept(numel, density) == kept


@pytest.mark.parametrize(("value", "rank"), [(math.nan, 2), (math.inf, 1)])
def test_not_finite_names_the_model(value: float, rank: int) -> None:
    models = [toy.InMemory({"w": torch.tensor([1.0, value])}, name) for name in ("a", "b")]
    with pytest.raises(CheckpointError, match=r"'a' has NaN or infinity in w"):
        thresholds(models, None, lambda _: [rank])


def test_no_elements() -> None:
    assert thresholds([toy.InMemory({"w": torch.zeros(0, 3)})], None, lambda _: [1]) == {"w": []}


@pytest.mark.parametrize("shape", [(300, 100), (1, 9000), (9000, 1), (40, 30, 20), (9000,), (7, 5), ()])
@pytest.mark.parametrize("elements", [64, 2**17])
def test_values_of_whole_rows(shape: tuple[int, ...], elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that depend on the row of an element, as far as the last dimension goes; samples are then taken of values."""
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", elements)
    generator = torch.Generator().manual_seed(0)
    base, source = torch.zeros(shape), torch.randn(shape, generator=generator)

    def relative(values: Tensor) -> Tensor:
        return values.abs() / (values.abs().amax(-1, keepdim=values.dim() > 0) + 1)

    def rows(block: Block) -> list[Tensor]:
        return [relative(block.tensors[0]).flatten()]

    ranks = sorted({1, (source.numel() + 1) // 2, source.numel()})
    models = [toy.InMemory({"w": source})]
    found = thresholds(models, toy.InMemory({"w": base}), lambda _: ranks, rows, Cut.row)
    assert torch.equal(torch.tensor(found["w"]), _expected(relative(source).flatten()[None], ranks))
