import math
from pathlib import Path

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Of, RowGranularity, Weighting
from lightning_embed.merge.blocks import stream
from tests.merge import toy
from tests.reference import sphere as reference


@pytest.mark.parametrize("of", list(Of))
@pytest.mark.parametrize("granularity", [RowGranularity.tensor, RowGranularity.row])
def test_reference(of: Of, granularity: RowGranularity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", 50)
    base, sources = toy.family(2)
    origin = base if of == Of.delta else {name: torch.zeros_like(tensor) for name, tensor in base.items()}
    how = toy.strategy("nuslerp", of=of, granularity=granularity, weighting=Weighting.given, weights=[1.0, 3.0])
    merged = toy.merge(tmp_path, how, sources, base)
    for name, shape in toy.SHAPES.items():
        rows = shape[0] if granularity == RowGranularity.row and len(shape) > 1 else 1
        left, right = ((source[name] - origin[name]).double().reshape(rows, -1) for source in sources)
        expected = torch.stack([reference.slerp_pair(left[row], right[row], 1, 3) for row in range(rows)])
        torch.testing.assert_close(merged[name], origin[name] + expected.view(shape).float(), rtol=0, atol=2e-6)


def test_values_a_human_can_check() -> None:
    third = toy.coefficients(toy.strategy("nuslerp"), [[1, 0], [0, 1]], [2, 1])
    assert third == pytest.approx([math.cos(math.radians(30)), math.sin(math.radians(30))])


@pytest.mark.parametrize("right", [[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
def test_where_no_arc_is_defined_the_line_is(right: list[float]) -> None:
    assert toy.coefficients(toy.strategy("nuslerp"), [[1.0, 0.0], right], [1, 3]) == pytest.approx([0.25, 0.75])


def test_of_two_sources_it_is_slerp(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    merged = toy.merge(tmp_path / "nuslerp", toy.strategy("nuslerp"), sources, base)
    slerp = toy.strategy("slerp", granularity=RowGranularity.tensor)
    assert all(
        torch.equal(tensor, merged[name])
        for name, tensor in toy.merge(tmp_path / "slerp", slerp, sources, base).items()
    )


def test_refusals() -> None:
    for count in (1, 3):
        with pytest.raises(ConfigError, match=f"merge=nuslerp takes 2 sources, got {count}"):
            toy.strategy("nuslerp").validate_inputs([None] * count, True, False)
