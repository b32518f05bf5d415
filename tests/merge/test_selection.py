from pathlib import Path

import pytest
import torch

from lightning_embed.merge import Source, num_kept, stream, thresholds
from lightning_embed.merge.checkpoint import ModelDirectory
from lightning_embed.merge.selection import order_statistics
from tests.merge import toy


@pytest.mark.parametrize("size", [1, 2, 3, 64, 1000])
@pytest.mark.parametrize("digits", [1, 6], ids=["many equal", "few equal"])
@pytest.mark.parametrize("block", [7, 10_000])
def test_reference_sorting(size: int, digits: int, block: int) -> None:
    torch.manual_seed(size)
    rows = torch.randn(3, size).abs().round(decimals=digits)
    rows[1] = 0
    ranks = sorted({1, (size + 1) // 2, size})
    found = order_statistics(lambda: list(rows.split(block, dim=1)), ranks)
    expected = rows.sort(dim=1, descending=True).values[:, [rank - 1 for rank in ranks]]
    assert torch.equal(found, expected)


def test_neighbouring_floats_and_extremes() -> None:
    one = torch.tensor(1.0)
    rows = torch.stack([one, one.nextafter(torch.tensor(2.0)), torch.tensor(1e-45), torch.tensor(3e38), one * 0])[None]
    found = order_statistics(lambda: [rows], [1, 2, 3, 4, 5])
    assert torch.equal(found, rows.sort(dim=1, descending=True).values)


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
