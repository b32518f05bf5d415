from pathlib import Path

import pytest
import torch

from lightning_embed.errors import ConfigError
from tests.merge import toy
from tests.plugins import block
from tests.reference import task_vectors as reference


@pytest.mark.parametrize("limit", [0.0, 1e-7, 1e-4, 0.05, 0.1, 10.0])
def test_reference(limit: float, tmp_path: Path) -> None:
    base, (source,) = toy.family(1)
    merged = toy.merge(tmp_path, toy.strategy("nearswap", limit=limit), [source], base)
    for name in toy.SHAPES:
        expected = reference.nearswap(base[name].double().flatten(), source[name].double().flatten(), limit)
        torch.testing.assert_close(merged[name].double().flatten(), expected, rtol=0, atol=1e-6)


def test_values_a_human_can_check() -> None:
    how = toy.strategy("nearswap", limit=0.5)
    assert block.merge(how, [[0.25, -0.5, 2.0, -4.0, 0.0]]).tolist() == [0.25, -0.5, 0.5, -0.5, 0.0]


def test_from_the_base_to_the_source(tmp_path: Path) -> None:
    base, (source,) = toy.family(1)
    nothing = toy.merge(tmp_path / "0", toy.strategy("nearswap", limit=0.0), [source], base)
    everything = toy.merge(tmp_path / "1", toy.strategy("nearswap", limit=1e6), [source], base)
    toy.close(nothing, base, 1e-7)
    toy.close(everything, source, 1e-6)


@pytest.mark.parametrize("limit", [-1e-4, -1.0])
def test_refused_limits(limit: float) -> None:
    with pytest.raises(ConfigError, match=f"merge=nearswap: limit={limit} must be at least 0"):
        toy.strategy("nearswap", limit=limit)


def test_one_source() -> None:
    with pytest.raises(ConfigError, match=r"merge=nearswap takes 1 sources, got 2"):
        toy.strategy("nearswap").validate_inputs([None, None], True, False)
    with pytest.raises(ConfigError, match=r"merge=nearswap needs the base"):
        toy.strategy("nearswap").validate_inputs([None], False, False)
