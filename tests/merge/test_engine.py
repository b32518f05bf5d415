import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from lightning_embed import registry
from lightning_embed.errors import CheckpointError, CheckpointMismatch, ConfigError, PluginError
from lightning_embed.merge import Cut, MergeStrategy, Source, Weighting
from lightning_embed.merge.blocks import stream
from lightning_embed.merge.engine import MergeSpec, merge_models
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe

SOUP = toy.strategy("soup")
PARAMETER = "embeddings.word.weight"


@dataclass(frozen=True)
class First(MergeStrategy):
    """Not registered: gives the first source, and a plan of its caller's."""

    plan: object = None

    def prepare(self, sources, base, probe, reporter):
        return {"plan": self.plan}

    def merge(self, name, tensors, base, plan, generator):
        return tensors[0].clone()


@dataclass(frozen=True)
class Noise(First):
    def merge(self, name, tensors, base, plan, generator):
        return torch.randn(tensors[0].shape, generator=generator)


@dataclass(frozen=True)
class WholeTensors(First):
    cut: ClassVar[Cut] = Cut.tensor

    def merge(self, name, tensors, base, plan, generator):
        assert tensors.shape[1:] == toy.SHAPES.get(name, (8,))
        return tensors.flip(1)[0] if tensors.dim() > 1 else tensors[0]


@dataclass(frozen=True)
class Stops(First):
    def merge(self, name, tensors, base, plan, generator):
        raise RuntimeError("in mid-merge")


@dataclass(frozen=True)
class Cut(First):
    def merge(self, name, tensors, base, plan, generator):
        return tensors[0][:-1]


@dataclass(frozen=True)
class Huge(First):
    def merge(self, name, tensors, base, plan, generator):
        return tensors[0] + 1e6


# law


def test_unchanged_parameters_are_the_base_bit_for_bit(tmp_path: Path) -> None:
    base, sources = toy.family(3)
    for source in sources:
        source[PARAMETER] = base[PARAMETER]
    thirds = toy.strategy("soup", weighting=Weighting.given, weights=[0.1, 0.3, 0.7])
    merged = toy.merge(tmp_path, thirds, sources, base)
    assert torch.equal(merged[PARAMETER], base[PARAMETER])
    changed = "encoder.layer.0.dense.weight"
    assert not torch.equal(merged[changed], base[changed])


def test_a_parameter_with_some_unchanged_blocks_is_still_merged_by_the_strategy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", 16)
    base, sources = toy.family(2)
    for source in sources:
        source[PARAMETER] = torch.cat([base[PARAMETER][:30], source[PARAMETER][30:]])
    merged = toy.merge(tmp_path, Huge(), sources, base)
    assert merged[PARAMETER].min() > 1e5


def test_randomness_depends_on_seed_and_name_only(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    one = toy.merge(tmp_path / "one", Noise(), sources, base, seed=3)
    fewer = [{name: s[name] for name in s if name != "encoder.layer.0.dense.weight"} for s in sources]
    two = toy.merge(tmp_path / "two", Noise(), fewer, seed=3, max_shard_bytes=100)
    other = toy.merge(tmp_path / "other", Noise(), sources, base, seed=4)
    assert torch.equal(one[PARAMETER], two[PARAMETER])
    assert not torch.equal(one[PARAMETER], other[PARAMETER])


def test_whole_tensors_keep_their_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", 4)
    _, sources = toy.family(2)
    merged = toy.merge(tmp_path, WholeTensors(), sources)
    assert torch.equal(merged[PARAMETER], sources[0][PARAMETER].flip(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_sources_of_any_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    _, sources = toy.family(2)
    stored = [{n: t.to(dtype) if t.is_floating_point() else t for n, t in source.items()} for source in sources]
    merged = toy.merge(tmp_path, SOUP, stored)
    expected = {n: (t + s[n]) / 2 if t.is_floating_point() else t for s, (n, t) in _zip(sources)}
    toy.close(merged, expected, 2e-2)
    exact = (stored[0][PARAMETER].float() + stored[1][PARAMETER].float()) / 2
    assert torch.equal(merged[PARAMETER], exact)


def _zip(sources: Sequence[toy.Tensors]) -> list[tuple[toy.Tensors, tuple[str, Tensor]]]:
    return [(sources[1], item) for item in sources[0].items()]


@pytest.mark.parametrize(
    ("word", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16), ("auto", torch.float64)]
)
def test_out_dtype(word: str, dtype: torch.dtype, tmp_path: Path) -> None:
    _, sources = toy.family(2)
    sources[0] = {n: t.double() if t.is_floating_point() else t for n, t in sources[0].items()}
    merged = toy.merge(tmp_path, SOUP, sources, out_dtype=word)
    assert merged[PARAMETER].dtype == dtype
    assert merged[toy.BUFFER].dtype == torch.int64
    config = json.loads((tmp_path / "merged/model/config.json").read_text())
    assert config == {"model_type": "toy"} | ({"torch_dtype": "float64"} if word == "auto" else {"dtype": word})


def test_what_not_all_have_is_as_it_is_in_the_one_that_lends_it(tmp_path: Path) -> None:
    base, sources = toy.family(3)
    for number in (1, 2):
        sources[number]["pooler.weight"] = torch.full((3,), float(number))
    merged = toy.merge(tmp_path / "one", toy.strategy("task_arithmetic"), sources, base, out_dtype="float16")
    assert torch.equal(merged["pooler.weight"], torch.ones(3, dtype=torch.float16))
    record = json.loads((tmp_path / "one/merged/merge.json").read_text())
    assert [source["lent"] for source in record["sources"]] == [[], ["pooler.weight"], []]
    assert [source["dropped"] for source in record["sources"]] == [[], [], ["pooler.weight"]]
    sources[1]["pooler.weight"][0] = math.nan
    with pytest.raises(CheckpointError, match=r"^'s1' has NaN or infinity in pooler.weight. Leave it out"):
        toy.merge(tmp_path / "two", SOUP, sources, base)


def test_record(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    specs = [
        Source(toy.write(tmp_path / "out/models" / name, s), name, 10) for name, s in zip("ab", sources, strict=True)
    ]
    origin = toy.write(tmp_path / "elsewhere", base)
    target = tmp_path / "out/merged/soup-1"
    found = merge_models(MergeSpec(toy.strategy("soup", weighting=Weighting.size), specs, origin, 5), target)
    written = json.loads((target / "merge.json").read_text())
    assert written["strategy"] == "soup"
    assert written["options"] == {"weighting": "size", "weights": None, "layers": None, "allow": None}
    assert written["plan"] == {"coefficients": {"*": [0.5, 0.5]}} == found.plan
    assert [source["path"] for source in written["sources"]] == ["../../models/a", "../../models/b"]
    assert (target / written["sources"][0]["path"]).resolve() == specs[0].path.resolve()
    assert written["base"]["path"] == str(origin)
    assert (written["seed"], written["out_dtype"]) == (5, "float32")
    assert written["geometry"]["delta_norms"] == pytest.approx([_distance(source, base) for source in sources])
    assert written["bytes"] == (target / "model/model.safetensors").stat().st_size
    assert written["sha256"].keys() == {"model.safetensors"}
    assert written["seconds"] > 0
    assert {"python", "torch", "lightning-embed"} <= written["versions"].keys()


def _distance(source: toy.Tensors, base: toy.Tensors) -> float:
    return float((toy.vector(source) - toy.vector(base)).norm())


def test_the_plan_has_been_through_json(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Reads(First):
        def merge(self, name, tensors, base, plan, generator):
            assert plan["plan"] == {"0": [1, 2]}
            return tensors[0]

    toy.merge(tmp_path, Reads({0: (1, 2)}), toy.family(2)[1])


def test_threads_are_given_back(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    toy.merge(tmp_path, SOUP, toy.family(2)[1])
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("how", [SOUP, toy.strategy("slerp"), Noise()], ids=["soup", "slerp", "noise"])
def test_the_number_of_threads_changes_nothing(how: MergeStrategy, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = {f"layer.{number}.weight": torch.randn(300, 500) for number in range(4)}
    sources = [{name: tensor + 0.1 * torch.randn(tensor.shape) for name, tensor in base.items()} for _ in range(3)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            toy.merge(tmp_path / str(threads), how, sources, base)
            record = json.loads((tmp_path / str(threads) / "merged/merge.json").read_text())
            found.append([record[key] for key in ("plan", "geometry", "sha256")])
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


# atomicity


def test_failure_leaves_no_target_and_the_inputs_untouched(tmp_path: Path) -> None:
    _, sources = toy.family(2)
    with pytest.raises(RuntimeError, match=r"in mid-merge"):
        toy.merge(tmp_path, Stops(), sources)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s0", "s1"]
    toy.close(toy.read(tmp_path / "s0"), sources[0], 0)


def test_failure_keeps_the_earlier_merge(tmp_path: Path) -> None:
    _, sources = toy.family(2)
    before = toy.merge(tmp_path, SOUP, sources)
    specs = [Source(tmp_path / name, name) for name in ("s0", "s1")]
    with pytest.raises(RuntimeError, match=r"in mid-merge"):
        merge_models(MergeSpec(Stops(), specs), tmp_path / "merged")
    assert torch.equal(toy.read(tmp_path / "merged/model")[PARAMETER], before[PARAMETER])
    merge_models(MergeSpec(First(), specs), tmp_path / "merged")
    assert torch.equal(toy.read(tmp_path / "merged/model")[PARAMETER], sources[0][PARAMETER])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged", "s0", "s1"]


# refusal


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("word", ["soup", "slerp"])
def test_not_finite(value: float, word: str, tmp_path: Path) -> None:
    base, sources = toy.family(3)
    sources[1][PARAMETER][3, 2] = value
    with pytest.raises(CheckpointError, match=r"'s1' has NaN or infinity in embeddings.word.weight"):
        toy.merge(tmp_path, toy.strategy(word), sources, base)
    assert not (tmp_path / "merged").exists()


def test_overflowing_sum_is_not_infinity(tmp_path: Path) -> None:
    source = {"a": torch.full((3,), 3e38)}
    assert torch.equal(toy.merge(tmp_path, First(), [source])["a"], source["a"])


def test_result_not_finite_in_out_dtype(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"merge=Huge gives NaN or infinity in .* as torch.float16"):
        toy.merge(tmp_path, Huge(), toy.family(2)[1], out_dtype="float16")


def test_result_of_another_shape(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"merge=Cut must return \[400\] torch.float32 .* got \[399\]"):
        toy.merge(tmp_path, Cut(), toy.family(2)[1])


@pytest.mark.parametrize("plan", [math.nan, torch.ones(1), {1, 2}])
def test_plan_that_is_not_data(plan: object, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"merge=First: the plan must be finite JSON values"):
        toy.merge(tmp_path, First(plan), toy.family(2)[1])


def test_integer_buffers_differ(tmp_path: Path) -> None:
    _, sources = toy.family(2)
    sources[1][toy.BUFFER] = torch.arange(5) + 1
    with pytest.raises(CheckpointMismatch, match=r"steps has torch.int64 values, .* differs between 's0' and 's1'"):
        toy.merge(tmp_path, SOUP, sources)


def test_number_of_sources(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Pair(First):
        num_sources: ClassVar[range] = range(2, 3)

    with pytest.raises(ConfigError, match=r"merge=Pair takes 2 sources, got 3"):
        toy.merge(tmp_path, Pair(), toy.family(3)[1])
    with pytest.raises(ConfigError, match=r"merge=soup takes at least 1 source, got 0"):
        SOUP.validate_inputs([], True, False)


def test_no_base(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"merge=task_arithmetic needs the base and got none. Give base="):
        toy.merge(tmp_path, toy.strategy("task_arithmetic"), toy.family(2)[1])


def test_no_probe() -> None:
    @dataclass(frozen=True)
    class Looks(First):
        needs_probe: ClassVar[bool] = True

    with pytest.raises(ConfigError, match=r"merge=Looks needs data, and the run has none. Give data="):
        Looks().validate_inputs([None] * 2, True, False)


def test_out_dtype_unknown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No out_dtype=bfloat. Did you mean .*'bfloat16'"):
        toy.merge(tmp_path, SOUP, toy.family(2)[1], out_dtype="bfloat")


def test_target_would_replace_an_input(tmp_path: Path) -> None:
    source = Source(toy.write(tmp_path / "run/model", toy.model(0)), "a")
    for target in (tmp_path / "run", tmp_path / "run/model"):
        with pytest.raises(
            CheckpointError,
            match=r"would replace .*run/model, which is to be merged|is inside .*run/model, which is to be merged",
        ):
            merge_models(MergeSpec(SOUP, [source]), target)
    assert (source.path / "model.safetensors").exists()


def test_target_that_no_merge_wrote(tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    source = Source(toy.write(tmp_path / "a", toy.model(0)), "a")
    merge_models(MergeSpec(SOUP, [source]), tmp_path / "merged")  # an empty folder is free
    shutil.rmtree(tmp_path / "merged")
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged/thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"holds no merge.json, so no merge wrote it"):
        merge_models(MergeSpec(SOUP, [source]), tmp_path / "merged")
    assert (tmp_path / "merged/thesis.tex").exists()


@pytest.mark.parametrize("word", sorted(entry.name for entry in registry.entries("merge")))
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_strategy_merges_a_source_that_is_not_finite(word: str, bad: float, tmp_path: Path) -> None:
    base, sources = toy.family(2)
    strategy = toy.strategy(word)
    sources = sources[: strategy.num_sources[-1] if len(strategy.num_sources) < 2 else 2]
    sources[-1]["encoder.layer.0.dense.weight"][3, 5] = bad
    with pytest.raises(CheckpointError, match=r"'s?[01]' has NaN or infinity in encoder.layer.0.dense.weight"):
        toy.merge(tmp_path, strategy, sources, base, probe=QuadraticProbe.around(base))
    assert not list(tmp_path.rglob("merge.json"))
