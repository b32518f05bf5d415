from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Weighting
from lightning_embed.merge.blocks import stream
from tests.merge import toy
from tests.reference import delta_guided as reference

delta_guided = import_module("lightning_embed.plugins.delta_guided")
GRANULARITIES = list(delta_guided.ElementGranularity)
WORD, BIAS = "embeddings.word.weight", "encoder.layer.0.dense.bias"


def _how(granularity: str = "tensor", **options: Any) -> Any:
    return toy.strategy("delta_guided", granularity=delta_guided.ElementGranularity(granularity), **options)


def _parts(tensors: toy.Tensors, granularity: str) -> list[list[int]]:
    """The elements of `toy.vector` that share their weights."""
    parts: dict[object, list[int]] = {}
    place = 0
    for name in sorted(n for n, t in tensors.items() if t.is_floating_point()):
        shape = tensors[name].shape
        columns = shape[1] if len(shape) == 2 else max(1, tensors[name].numel())
        for element in range(tensors[name].numel()):
            key = {
                "element": place,
                "row": (name, element // columns),
                "tensor": name,
                "layer": name[: name.index(".", 14)] if name.startswith("encoder") else "embeddings",
                "model": "",
            }[granularity]
            parts.setdefault(key, []).append(place)
            place += 1
    return list(parts.values())


# reference


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"p": 1},
        {"kappa": 2.0},
        {"kappa": -1.0, "p": 1},
        {"temperature": 0.2},
        {"weighting": Weighting.given, "weights": [1.0, 2.0, 5.0], "temperature": 0.5, "kappa": 0.5},
    ],
)
def test_reference(granularity: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", 24)  # norms are of parts, however many blocks these lie in
    base, sources = toy.family(3)
    sources[1][BIAS] = base[BIAS]  # one delta is zero
    merged = toy.vector(toy.merge(tmp_path, _how(granularity, **options), sources, base))
    plain = {key: value for key, value in options.items() if key != "weighting"}
    vectors = [toy.vector(source) for source in sources]
    expected = reference.delta_guided(toy.vector(base), vectors, _parts(base, granularity), **plain)
    assert (merged - expected).abs().max() < 2e-6


# law


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_kappa_zero_is_the_soup(granularity: str, tmp_path: Path) -> None:
    base, sources = toy.family(3)
    sources[1][BIAS] = base[BIAS]
    given = {"weighting": Weighting.given, "weights": [1.0, 2.0, 0.0]}
    merged = toy.merge(tmp_path / "ours", _how(granularity, kappa=0.0, **given), sources, base)
    toy.close(merged, toy.merge(tmp_path / "soup", toy.strategy("soup", **given), sources, base))


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_laws_hold_at_every_granularity(granularity: str, tmp_path: Path) -> None:
    base, sources = toy.family(3)
    merged = toy.merge(tmp_path / "there", _how(granularity), sources, base)
    toy.close(toy.merge(tmp_path / "back", _how(granularity), sources[::-1], base), merged)
    toy.close(toy.merge(tmp_path / "copies", _how(granularity), sources[:1] * 3, base), sources[0])
    longer = [{name: base[name] + 5 * (source[name] - base[name]) for name in base} for source in sources]
    expected = {name: base[name] + 5 * (merged[name] - base[name]) for name in base}
    toy.close(toy.merge(tmp_path / "longer", _how(granularity), longer, base), expected)


def test_values_a_human_can_check() -> None:
    def shares(sizes: list[float], weights: list[float] | None = None, **options: Any) -> list[float]:
        found: list[float] = (
            _how(**options)
            ._shares(torch.tensor(sizes).float(), [float(w) for w in weights or [1] * len(sizes)])
            .tolist()
        )
        return found

    assert shares([3, 1]) == pytest.approx([0.75, 0.25])
    assert shares([3, 1], [1, 3]) == pytest.approx([0.5, 0.5])
    assert shares([3, 1], kappa=2.0) == pytest.approx([0.9, 0.1])
    assert shares([3, 1], kappa=-1.0) == pytest.approx([0.25, 0.75])
    assert shares([3, 0], kappa=-1.0) == [0, 1]
    assert shares([0, 0, 0], kappa=-1.0) == pytest.approx([1 / 3] * 3)
    assert shares([0, 0], [1, 3]) == pytest.approx([0.25, 0.75])
    assert shares([0, 7], [1, 0]) == [1, 0]  # who has no weight gets none, even where nobody else has moved
    assert shares([3, 1], temperature=1e-3) == pytest.approx([1, 0])
    assert shares([3, 1], temperature=1e6) == pytest.approx([0.5, 0.5])
    assert shares([3e-30, 1e-30], kappa=2.0) == pytest.approx([0.9, 0.1])  # the powers alone would be 0


def test_rows_are_those_of_a_matrix(tmp_path: Path) -> None:
    base = {"a.weight": torch.zeros(2, 2), "a.bias": torch.zeros(2)}
    one = {"a.weight": torch.tensor([[4.0, 0.0], [0.0, 0.0]]), "a.bias": torch.tensor([3.0, 0.0])}
    two = {"a.weight": torch.tensor([[0.0, 4.0], [0.0, 1.0]]), "a.bias": torch.tensor([0.0, 1.0])}
    merged = toy.merge(tmp_path, _how("row"), [one, two], base)
    torch.testing.assert_close(merged["a.weight"], torch.tensor([[2.0, 2.0], [0.0, 1.0]]))
    torch.testing.assert_close(merged["a.bias"], torch.tensor([2.25, 0.25]))


# refusal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 3}, r"p=3 must be 1 or 2"),
        ({"kappa": float("nan")}, r"kappa=nan must be a finite number"),
        ({"temperature": 0.0}, r"temperature=0.0 must be above 0, or null"),
        ({"weighting": Weighting.given, "weights": [2.0, -1.0]}, r"weights=\[2.0, -1.0\] has a negative number"),
    ],
)
def test_refusal(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _how(**options)
