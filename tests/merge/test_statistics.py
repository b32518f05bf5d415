import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import CheckpointError, PluginError
from lightning_embed.merge import STATISTICS, Cut, MergeStrategy, Model, Plan, Probe, Source
from lightning_embed.merge.blocks import stream
from lightning_embed.merge.engine import MergeSpec, merge_models
from lightning_embed.merge.replay import Replay
from tests.merge import toy

WORD, BIAS = "embeddings.word.weight", "encoder.layer.0.dense.bias"


@dataclass(frozen=True)
class Doubled(MergeStrategy):
    """Not registered: its statistics of a source are twice its embeddings, and the merge is the difference of two."""

    def statistics(self, source: Model, probe: Probe | None) -> Mapping[str, Tensor]:
        return {WORD: 2 * source.tensor(WORD)}

    def merge(self, name: str, tensors: Tensor, base: Tensor | None, plan: Plan, generator: torch.Generator) -> Tensor:
        assert (STATISTICS in plan) == (name == WORD)
        if name != WORD:
            return tensors[0].clone()
        one, two = plan[STATISTICS]
        assert torch.equal(one, 2 * tensors[0])
        return one - two


@dataclass(frozen=True)
class Rows(Doubled):
    cut: ClassVar[Cut] = Cut.row


@dataclass(frozen=True)
class Whole(Doubled):
    """Statistics of another shape."""

    cut: ClassVar[Cut] = Cut.tensor

    def statistics(self, source: Model, probe: Probe | None) -> Mapping[str, Tensor]:
        return {WORD: source.tensor(WORD).T @ source.tensor(WORD)}

    def merge(self, name: str, tensors: Tensor, base: Tensor | None, plan: Plan, generator: torch.Generator) -> Tensor:
        return tensors[0] @ (plan[STATISTICS][0] - plan[STATISTICS][1]) if name == WORD else tensors[0].clone()


def _specs(folder: Path) -> tuple[list[Source], list[dict[str, Tensor]]]:
    sources = toy.family(2)[1]
    return [Source(toy.write(folder / f"s{i}", s), f"s{i}") for i, s in enumerate(sources)], sources


@pytest.mark.parametrize("how", [Doubled(), Rows()])
def test_merge_gets_the_block_of_each_source(
    how: MergeStrategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", 24)
    sources = toy.family(2)[1]
    merged = toy.merge(tmp_path, how, sources)
    torch.testing.assert_close(merged[WORD], 2 * (sources[0][WORD] - sources[1][WORD]))
    assert torch.equal(merged[BIAS], sources[0][BIAS])


def test_whole_tensors_have_statistics_of_any_shape(tmp_path: Path) -> None:
    one, two = (source[WORD] for source in toy.family(2)[1])
    merged = toy.merge(tmp_path, Whole(), toy.family(2)[1])
    torch.testing.assert_close(merged[WORD], one @ (one.T @ one - two.T @ two))


def test_one_is_written_before_the_next_is_asked_for(tmp_path: Path) -> None:
    seen = []

    @dataclass(frozen=True)
    class Watching(Doubled):
        def statistics(self, source: Model, probe: Probe | None) -> Mapping[str, Tensor]:
            seen.append(sorted(path.parent.name for path in tmp_path.rglob("statistics/*/model.safetensors")))
            return super().statistics(source, probe)

    toy.merge(tmp_path, Watching(), toy.family(2)[1])
    assert seen == [[], ["0"]]


def test_recipe(tmp_path: Path) -> None:
    specs, _ = _specs(tmp_path)
    record = merge_models(MergeSpec(Doubled(), specs), tmp_path / "one")
    assert json.loads((tmp_path / "one/merge.json").read_text())["statistics"] == record.statistics
    recipe = Replay.read(tmp_path / "one/merge.json")

    @dataclass(frozen=True)
    class Blind(Doubled):
        def statistics(self, source: Model, probe: Probe | None) -> Mapping[str, Tensor]:
            raise AssertionError("a recipe looks at no data")

    again = recipe.repeat(Blind(), tmp_path / "two")
    assert (again.sha256, again.statistics) == (record.sha256, record.statistics)
    assert Replay.read(tmp_path / "two/merge.json").repeat(Blind(), tmp_path / "two").sha256 == record.sha256
    file = tmp_path / "one/statistics/1/model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(CheckpointError, match=r"statistics/1/model.safetensors is not the file .* SHA-256 differs"):
        recipe.repeat(Blind(), tmp_path / "three")
    shutil.rmtree(tmp_path / "one/statistics")
    with pytest.raises(CheckpointError, match=r"statistics/0 does not exist, and .* merges it. Put it back, or merge"):
        recipe.repeat(Blind(), tmp_path / "three")


def test_without_statistics_there_is_no_folder(tmp_path: Path) -> None:
    toy.merge(tmp_path, toy.strategy("soup"), toy.family(2)[1])
    assert sorted(path.name for path in (tmp_path / "merged").iterdir()) == ["merge.json", "model"]


@pytest.mark.parametrize(
    ("answers", "error", "message"),
    [
        ([{WORD: torch.zeros(8, 8)}], PluginError, r"gives \[8, 8\] for embeddings.word.weight, which is \[50, 8\]"),
        ([{"other": torch.zeros(1)}], PluginError, r"gives \[1\] for other, which is no parameter"),
        ([{BIAS: torch.zeros(64)}, {}], PluginError, r"the same parameters for all sources, and 's1' differs"),
        (
            [{BIAS: torch.full((64,), torch.nan)}],
            CheckpointError,
            r"'s0' gives NaN or infinity on the probe, at .*bias",
        ),
    ],
)
def test_refusal(answers: list[dict[str, Tensor]], error: type[Exception], message: str, tmp_path: Path) -> None:
    given = iter(answers)

    @dataclass(frozen=True)
    class Answers(Doubled):
        def statistics(self, source: Model, probe: Probe | None) -> Mapping[str, Tensor]:
            return next(given)

    with pytest.raises(error, match=message):
        toy.merge(tmp_path, Answers(), toy.family(2)[1])
    assert not (tmp_path / "merged").exists()
