import json
from pathlib import Path

import pytest
import torch

from lightning_embed.errors import CheckpointError
from lightning_embed.merge import Source
from lightning_embed.merge.diagnosis.stable_rank import stable_ranks
from lightning_embed.merge.engine import MergeSpec, merge_models
from lightning_embed.merge.examine import examine
from tests.merge import toy

MATRICES = [name for name, shape in toy.SHAPES.items() if len(shape) == 2]


@pytest.fixture
def written(tmp_path: Path) -> tuple[list[Source], Path]:
    base, sources = toy.family(3)
    specs = [Source(toy.write(tmp_path / f"s{i}", tensors), f"s{i}") for i, tensors in enumerate(sources)]
    return specs, toy.write(tmp_path / "base", base)


def test_the_doctor_alone_sees_what_a_merge_sees_and_writes_no_model(
    written: tuple[list[Source], Path], tmp_path: Path
) -> None:
    sources, base = written
    alone = examine(sources, base, tmp_path / "none-1").geometry
    beside = merge_models(MergeSpec(toy.strategy("soup"), sources, base), tmp_path / "soup-1").geometry
    assert alone is not None
    assert beside is not None
    assert alone.delta_norms == pytest.approx(beside.delta_norms)
    assert alone.pair_cosines == pytest.approx(beside.pair_cosines)
    assert alone.sign_conflict_share == pytest.approx(beside.sign_conflict_share)
    assert list(alone.groups) == list(beside.groups) == ["embeddings", "encoder.layer.0", "encoder.layer.1"]
    assert [finding.code for finding in alone.expectations] == [finding.code for finding in beside.expectations] != []
    assert alone.merged_norm is None
    assert [path.name for path in (tmp_path / "none-1").iterdir()] == ["merge.json"]
    record = json.loads((tmp_path / "none-1/merge.json").read_text())
    assert record["strategy"] == "none"
    assert record["geometry"]["groups"]["embeddings"]["stable_ranks"] == pytest.approx(
        [_stable_rank(source, base, MATRICES[0]) for source in sources], rel=1e-3
    )


def _stable_rank(source: Source, base: Path, name: str) -> float:
    squares = torch.linalg.svdvals(toy.read(source.path)[name] - toy.read(base)[name]) ** 2
    return float(squares.sum() / squares[0])


def test_without_a_base_the_weights_are_compared(written: tuple[list[Source], Path], tmp_path: Path) -> None:
    sources, _ = written
    found = examine(sources, None, tmp_path / "none").geometry
    assert found is not None
    assert found.base_norm == 0
    assert [finding.code for finding in found.expectations] == ["weights_close"]


def test_the_stable_rank_is_exact_for_known_matrices() -> None:
    torch.manual_seed(0)
    left, right = torch.linalg.qr(torch.randn(300, 20)).Q, torch.linalg.qr(torch.randn(40, 20)).Q
    singular = torch.tensor([3.0, 2.0, *[1.0] * 18])
    rank_one, known = torch.outer(left[:, 0], right[:, 0]), left @ singular.diag() @ right.T
    base = torch.randn(300, 40)
    models = [toy.InMemory({"a.weight": base + delta, "a.bias": base[0]}) for delta in (rank_one, known)]
    (found,) = stable_ranks(models, toy.InMemory({"a.weight": base, "a.bias": base[0]})).values()
    assert found == pytest.approx([1, (9 + 4 + 18) / 9], rel=1e-3)


def test_a_matrix_that_not_all_have_moved_has_no_rank() -> None:
    base = torch.randn(5, 4)
    models = [toy.InMemory({"a.weight": base + delta}) for delta in (0, 1)]
    assert stable_ranks(models, toy.InMemory({"a.weight": base})) == {}


def test_a_source_is_never_written_over(written: tuple[list[Source], Path], tmp_path: Path) -> None:
    sources, base = written
    with pytest.raises(CheckpointError, match="Choose a different target"):
        examine(sources, base, tmp_path)


def test_a_parameter_without_elements(tmp_path: Path) -> None:
    models = [
        toy.write(tmp_path / name, {"a.empty": torch.zeros(0, 4), "a.weight": torch.randn(3)})
        for name in ("one", "two", "base")
    ]
    found = examine([Source(path, path.name) for path in models[:2]], models[2], tmp_path / "none").geometry
    assert found is not None
    assert len(found.delta_norms) == 2
