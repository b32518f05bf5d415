import torch

from lightning_embed.merge import uniform


def _drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return uniform(torch.Size(shape), torch.Generator().manual_seed(seed))


def test_uniform_is_uniform() -> None:
    drawn = _drawn(300, 1001).double()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.histc(drawn, bins=20, min=0, max=1)
    expected = drawn.numel() / 20
    assert ((counts - expected) ** 2 / expected).sum() < 50  # chi-squared, 19 degrees of freedom: p = 1e-4
    assert abs(torch.corrcoef(drawn[:, :2].T)[0, 1]) < 0.25  # 4 standard deviations


def test_uniform_follows_the_generator() -> None:
    assert _drawn().shape == ()
    assert torch.equal(_drawn(2, 3), _drawn(6).view(2, 3))
    assert not torch.equal(_drawn(3, seed=1), _drawn(3, seed=2))
    generator = torch.Generator().manual_seed(0)
    assert not torch.equal(uniform(torch.Size([3]), generator), uniform(torch.Size([3]), generator))
