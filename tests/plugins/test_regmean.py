from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Batches, Weighting
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe, RegressionProbe
from tests.reference import data_merges as reference

LAYER = "encoder.layer.0.dense.weight"
HEAD = "head.weight"


def _regressions(*rows: int) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Noisy regressions with 5 inputs and 3 outputs, two batches each, inputs correlated in each its own way."""
    generator = torch.Generator().manual_seed(0)
    data = {}
    for number, count in enumerate(rows):
        mixing, truth = (torch.randn(shape, generator=generator) for shape in ((5, 5), (5, 3)))
        x = torch.randn(count, 5, generator=generator) @ mixing
        y = x @ truth + 0.1 * torch.randn(count, 3, generator=generator)
        data[f"task{number}"] = list(zip(x.chunk(2), y.chunk(2), strict=True))
    return data


def _joined(batches: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def _merge(
    folder: Path, data: Mapping[str, list[tuple[Tensor, Tensor]]], **options: Any
) -> tuple[Tensor, list[Tensor]]:
    """The merged head of sources that fit their own task best, and their heads."""
    heads = [torch.linalg.lstsq(*_joined(batches)).solution.T.contiguous() for batches in data.values()]
    how = toy.strategy("regmean", batches=Batches.own, **options)
    sources = [{HEAD: head, "head.bias": torch.full((3,), float(n))} for n, head in enumerate(heads)]
    merged = toy.merge(folder, how, sources, probe=RegressionProbe(data), names=list(data))
    torch.testing.assert_close(merged["head.bias"], torch.full((3,), (len(data) - 1) / 2))
    return merged[HEAD], heads


# reference


@pytest.mark.parametrize("shrinkage", [0.0, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 0.0, 3.0]])
def test_reference(shrinkage: float, weights: list[float], tmp_path: Path) -> None:
    base, sources = toy.family(3)
    probe = QuadraticProbe.around(base)
    how = toy.strategy("regmean", shrinkage=shrinkage, weighting=Weighting.given, weights=weights)
    merged = toy.merge(tmp_path, how, sources, base, probe=probe)
    for name in toy.SHAPES:
        inputs = [[x for b in (0, 1) for layer, x in probe.activations(s, b) if layer == name] for s in sources]
        if inputs[0]:
            matrices, seen = [s[name].double().T for s in sources], [torch.cat(found).double() for found in inputs]
            expected = reference.regmean(matrices, seen, weights, shrinkage).T
        else:
            expected = _average([source[name].double() for source in sources], weights)
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=2e-6)


def _average(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return sum((w * t for w, t in zip(weights, tensors, strict=True)), torch.zeros_like(tensors[0])) / sum(weights)


def test_regressions_become_the_joint_regression(tmp_path: Path) -> None:
    data = _regressions(40, 40, 40)
    merged, heads = _merge(tmp_path, data, shrinkage=0.0)
    x, y = _joined([batch for batches in data.values() for batch in batches])
    joint = torch.linalg.lstsq(x, y).solution.T
    torch.testing.assert_close(merged, joint, rtol=1e-3, atol=1e-3)
    assert (torch.stack(heads).mean(0) - joint).abs().max() > 0.1


def test_more_rows_count_more_where_weights_say_so(tmp_path: Path) -> None:
    data = _regressions(20, 100)
    heads = {name: torch.linalg.lstsq(*_joined(batches)).solution.T.contiguous() for name, batches in data.items()}
    how = toy.strategy("regmean", batches=Batches.own, shrinkage=0.0, weighting=Weighting.given, weights=[20.0, 100.0])
    sources = [{HEAD: head} for head in heads.values()]
    merged = toy.merge(tmp_path, how, sources, probe=RegressionProbe(data), names=list(data))
    x, y = _joined([batch for batches in data.values() for batch in batches])
    torch.testing.assert_close(merged[HEAD], torch.linalg.lstsq(x, y).solution.T, rtol=1e-3, atol=1e-3)


# limits


def test_equal_inputs_give_the_average(tmp_path: Path) -> None:
    data = _regressions(40, 40)
    heads = [torch.randn(3, 5) for _ in data]
    sources = [{HEAD: head} for head in heads]
    merged = toy.merge(tmp_path, toy.strategy("regmean"), sources, probe=RegressionProbe(data))
    torch.testing.assert_close(merged[HEAD], (heads[0] + heads[1]) / 2)


def test_shrunk_to_the_diagonal_every_column_has_its_own_shares(tmp_path: Path) -> None:
    data = _regressions(40, 40)
    merged, heads = _merge(tmp_path, data, shrinkage=1.0)
    squares = [_joined(batches)[0].square().mean(0) for batches in data.values()]
    expected = (squares[0] * heads[0] + squares[1] * heads[1]) / (squares[0] + squares[1])
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)


def test_directions_without_input_keep_the_average(tmp_path: Path) -> None:
    """Rows of one direction each: the Gram matrices are singular, and so is their sum."""
    one, two = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    data = {"one": [(one[None], torch.zeros(1, 1))], "two": [(two[None], torch.zeros(1, 1))]}
    sources = [{HEAD: torch.tensor([[1.0, 2.0, 3.0]])}, {HEAD: torch.tensor([[5.0, 6.0, 7.0]])}]
    how = toy.strategy("regmean", batches=Batches.own, shrinkage=0.0)
    merged = toy.merge(tmp_path, how, sources, probe=RegressionProbe(data), names=list(data))
    torch.testing.assert_close(merged[HEAD], torch.tensor([[1.0, 6.0, 5.0]]), rtol=1e-4, atol=1e-4)


def test_no_input_at_all_gives_the_average() -> None:
    tensors = torch.tensor([[[1.0, 2.0]], [[3.0, 6.0]]])
    plan = {"weights": [0.5, 0.5], "statistics": [torch.zeros(2, 2)] * 2}
    merged = toy.strategy("regmean").merge(HEAD, tensors, None, plan, torch.Generator())
    assert merged.tolist() == [[2.0, 4.0]]


def test_a_gram_matrix_that_rounding_made_indefinite_is_solved() -> None:
    """An outlier direction a million times as strong as the rest, as encoders have them."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4000, 64, generator=generator) * 1e-3
    inputs += 1e3 * torch.randn(4000, 1, generator=generator) * torch.randn(64, generator=generator)
    gram = inputs.T @ inputs / len(inputs)
    assert torch.linalg.eigvalsh(gram.double())[0] < 0
    tensors = torch.randn(2, 3, 64, generator=generator)
    plan = {"weights": [0.5, 0.5], "statistics": [gram, gram.flip(0, 1)]}
    merged = toy.strategy("regmean", shrinkage=0.0).merge(HEAD, tensors, None, plan, torch.Generator())
    assert merged.abs().max() < 10 * tensors.abs().max()


# refusal


@pytest.mark.parametrize("shrinkage", [-0.1, 1.1, float("nan")])
def test_refusal(shrinkage: float) -> None:
    with pytest.raises(ConfigError, match=r"merge=regmean: shrinkage=.* must be (in \[0, 1\]|a finite number)"):
        toy.strategy("regmean", shrinkage=shrinkage)
