"""Laws over all registered strategies: a new plugin is tested the day it appears."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_embed import registry
from lightning_embed.merge import Law, Learned, MergeStrategy, Weighted, Weighting
from lightning_embed.merge.blocks import stream
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe

WORDS = registry.names("merge")


@pytest.fixture(params=WORDS)
def how(request: pytest.FixtureRequest) -> MergeStrategy:
    """The defaults; of a search only the first steps, which obey the same laws."""
    learned = issubclass(registry.get("merge", request.param), Learned)
    return toy.strategy(request.param, **({"steps": 20} if learned else {}))


def _declaring(law: Law) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("how", [w for w in WORDS if law in registry.get("merge", w).laws], indirect=True)


def _count(how: MergeStrategy) -> int:
    return next(count for count in (3, 2, 1) if count in how.num_sources)


def _merge(
    folder: Path, how: MergeStrategy, sources: Sequence[toy.Tensors], base: toy.Tensors, **options: Any
) -> dict[str, torch.Tensor]:
    return toy.merge(folder, how, sources, base, probe=_probe(how), **options)


def _probe(how: MergeStrategy) -> QuadraticProbe | None:
    return QuadraticProbe.around(toy.family(1)[0]) if how.needs_probe else None


def test_words() -> None:
    assert {"soup", "slerp", "task_arithmetic"} <= set(WORDS)


def test_sources_equal_to_the_base_give_the_base(how: MergeStrategy, tmp_path: Path) -> None:
    base = toy.model(0)
    merged = _merge(tmp_path, how, [base] * _count(how), base)
    assert all(torch.equal(merged[name], base[name]) for name in base)
    # the engine keeps unchanged parameters by itself: so ask the strategy too
    values = torch.randn(2, 5).expand(_count(how), 2, 5)
    models = [toy.InMemory(base)] * _count(how)
    plan = how.prepare(models, models[0], _probe(how), toy.Curves())
    again = how.merge(toy.ZERO, values, values[0], plan, torch.Generator())
    torch.testing.assert_close(again, values[0])


def test_shapes_dtypes_finite(how: MergeStrategy, tmp_path: Path) -> None:
    base, sources = toy.family(_count(how))
    merged = _merge(tmp_path, how, sources, base)
    assert {name: (t.shape, t.dtype) for name, t in merged.items()} == {n: (t.shape, t.dtype) for n, t in base.items()}
    assert all(tensor.isfinite().all() for tensor in merged.values())
    assert torch.equal(merged[toy.BUFFER], base[toy.BUFFER])
    assert torch.equal(merged[toy.ZERO], base[toy.ZERO])


def test_same_call_same_bytes(how: MergeStrategy, tmp_path: Path) -> None:
    base, sources = toy.family(_count(how))
    for attempt in ("one", "two"):
        _merge(tmp_path / attempt, how, sources, base)
    one, two = (tmp_path / attempt / "merged/model/model.safetensors" for attempt in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_block_boundaries_change_nothing(how: MergeStrategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, sources = toy.family(_count(how))
    whole = _merge(tmp_path / "whole", how, sources, base)
    other_seed = _merge(tmp_path / "seed", how, sources, base, seed=1)
    if any(not torch.equal(whole[name], other_seed[name]) for name in whole):
        pytest.skip("random: draws anew for each block, whose size is a constant")
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", 7)
    toy.close(_merge(tmp_path / "blocks", how, sources, base), whole, 1e-6)


def test_shard_boundaries_change_nothing(how: MergeStrategy, tmp_path: Path) -> None:
    base, sources = toy.family(_count(how))
    whole = _merge(tmp_path / "whole", how, sources, base)
    cut = _merge(tmp_path / "cut", how, sources, base, max_shard_bytes=300)
    assert len(list((tmp_path / "cut/merged/model").glob("model-*.safetensors"))) > 2
    assert all(torch.equal(cut[name], whole[name]) for name in whole)


@_declaring(Law.copies)
def test_copies(how: MergeStrategy, tmp_path: Path) -> None:
    base, (source,) = toy.family(1)
    toy.close(_merge(tmp_path, how, [source] * _count(how), base), source)


@_declaring(Law.single)
def test_single(how: MergeStrategy, tmp_path: Path) -> None:
    base, (source,) = toy.family(1)
    toy.close(_merge(tmp_path, how, [source], base), source)


@_declaring(Law.permutation)
def test_permutation(how: MergeStrategy, tmp_path: Path) -> None:
    base, sources = toy.family(_count(how))
    there = _merge(tmp_path / "there", _weighted(how, [1.0, 3.0, 2.0]), sources, base)
    toy.close(_merge(tmp_path / "back", _weighted(how, [1.0, 3.0, 2.0], -1), sources[::-1], base), there)


def _weighted(how: MergeStrategy, weights: list[float], step: int = 1) -> MergeStrategy:
    """With a weight per source, where there can be weights."""
    if not isinstance(how, Weighted):
        return how
    return replace(how, weighting=Weighting.given, weights=weights[: _count(how)][::step])


@_declaring(Law.scale)
def test_scale(how: MergeStrategy, tmp_path: Path) -> None:
    base, sources = toy.family(_count(how))
    longer = [{name: base[name] + 3 * (source[name] - base[name]) for name in base} for source in sources]
    merged = _merge(tmp_path / "short", how, sources, base)
    expected = {name: base[name] + 3 * (merged[name] - base[name]) for name in base}
    toy.close(_merge(tmp_path / "long", how, longer, base), expected)
