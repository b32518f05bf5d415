"""merge.py as a whole: what it makes, what it says, what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from safetensors.torch import load_file

from lightning_embed.cli import launch
from lightning_embed.config import compose
from lightning_embed.config.identity import evaluation_hash
from lightning_embed.config.queries import has_tests
from lightning_embed.errors import CheckpointError, CheckpointMismatch, ConfigError
from lightning_embed.merge import Source
from lightning_embed.merge.engine import MergeSpec, merge_models
from lightning_embed.merge.record.freshness import is_current
from lightning_embed.merge.record.record import MergeRecord
from lightning_embed.run import merge
from lightning_embed.run.finalize import Finalize
from lightning_embed.run.merge_probe import ProbeMaker
from lightning_embed.storage import unique_names
from tests.merge import toy
from tests.run.test_train import ROOT, _cfg
from tests.toy import write_toy


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """Two models, as an override."""
    _, tensors = toy.family(2)
    paths = [toy.write(tmp_path / "models" / f"s{number}", t) for number, t in enumerate(tensors)]
    return [f"sources=[{','.join(map(str, paths))}]", "evaluation=none", "logger=none"]


def _merge(*overrides: str) -> None:
    merge.merge(_cfg("merge", list(overrides)))


def test_a_recipe(sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["merge=dare", f"base={tmp_path}/models/s0", "seed=5", "merge.density=0.5"]
    _merge(*sources, *options, f"out={tmp_path}/one")
    (first,) = (tmp_path / "one/merged").iterdir()
    _merge(f"recipe={first}/merge.json", "evaluation=none", "logger=none", f"out={tmp_path}/two")
    (second,) = (tmp_path / "two/merged").iterdir()
    files = [folder / "model/model.safetensors" for folder in (first, second)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert second.name.startswith("dare-")
    record = json.loads((second / "merge.json").read_text())
    assert record["options"]["density"] == 0.5
    assert record["seed"] == 5
    said = capsys.readouterr().out
    assert "repeating" in said
    assert "\nmerge and report: " in said, "the models lie elsewhere"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "sources is missing: give it as sources=[...], or repeat a merge by recipe=<its merge.json>."),
        (
            ["recipe=a/merge.json", "sources=[b]", "merge.weighting=size", "seed=3"],
            "recipe=a/merge.json contains sources, merge, seed already: give one or the other.",
        ),
        (
            ["recipe=a/merge.json", "merge=soup"],
            "recipe=a/merge.json contains merge already: give one or the other.",
        ),
    ],
)
def test_sources_or_a_recipe(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose.check_command("merge", overrides)
    assert str(caught.value) == message


def test_the_doctor_has_a_probe_of_its_own_beside_a_recipe() -> None:
    compose.check_command("merge", ["recipe=a/merge.json", "doctor=landscape", "probe.batch_size=8"])
    with pytest.raises(ConfigError, match="contains probe already"):
        compose.check_command("merge", ["recipe=a/merge.json", "probe.batch_size=8"])


@pytest.mark.slow
def test_a_sweep_over_words_with_an_option_that_soup_lacks(sources: list[str], tmp_path: Path) -> None:
    """Hydra composes a sweep first without what is swept, so with soup, and would stop at the option."""
    command = [sys.executable, str(ROOT / "merge.py"), "-m", "merge=ties,dare", "merge.density=0.3", *sources]
    subprocess.run(
        [*command, f"base={tmp_path}/models/s0", f"out={tmp_path}/swept"], check=True, timeout=120, capture_output=True
    )
    records = [json.loads(file.read_text()) for file in sorted(tmp_path.glob("swept/merged/*/merge.json"))]
    assert [(record["strategy"], record["options"]["density"]) for record in records] == [("dare", 0.3), ("ties", 0.3)]


def test_options_of_swept_words() -> None:
    given = [
        "-m",
        "loss@retrieval_loss=infonce,multi_positive",
        "retrieval_loss.temperature=0.1",
        "seed=1",
        "merge.x=1,2",
    ]
    changed = launch._options_of_swept_words(given, OverridesParser.create().parse_overrides(given[1:]))
    assert changed == [*given[:2], "retrieval_loss.temperature=choice(0.1)", *given[3:]]


def test_no_source_twice(sources: list[str], tmp_path: Path) -> None:
    twice = f"sources=[{tmp_path}/models/*,{tmp_path}/models/../models/s1]"
    with pytest.raises(ConfigError, match=r"models/s1 occurs twice. Remove one"):
        _merge(*sources, twice, f"out={tmp_path}/one")


@pytest.mark.parametrize("file", ["prompts.json", "1_Pooling/config.json"])
def test_a_merge_is_made_anew_when_any_file_of_a_source_has_changed(
    file: str, sources: list[str], tmp_path: Path
) -> None:
    """Not the weights alone: the merged model has the rest too."""
    own = tmp_path / "models/s0" / file
    own.parent.mkdir(exist_ok=True)
    own.write_text('{"is": "old"}')
    (tmp_path / "models/s0/modules.json").write_text('[{"path": "1_Pooling"}]')
    _merge(*sources, f"out={tmp_path}/one")
    (merged,) = (tmp_path / "one/merged").iterdir()
    own.write_text('{"is": "new"}')
    later = (merged / "merge.json").stat().st_mtime + 1
    os.utime(own, (later, later))
    _merge(*sources, f"out={tmp_path}/one")
    (again,) = set((tmp_path / "one/merged").iterdir()) - {merged}
    assert json.loads((again / "model" / file).read_text()) == {"is": "new"}
    assert json.loads((merged / "model" / file).read_text()) == {"is": "old"}


def test_an_older_model_in_the_place_of_a_source(sources: list[str], tmp_path: Path) -> None:
    """`mv`, `cp -a` and rsync keep dates: content counts."""
    weights = tmp_path / "models/s0/model.safetensors"
    kept, other = weights.read_bytes(), (tmp_path / "models/s1/model.safetensors").read_bytes()
    _merge(*sources, f"out={tmp_path}/one")
    (merged,) = (tmp_path / "one/merged").iterdir()
    written = (merged / "merge.json").stat().st_mtime_ns
    weights.write_bytes(kept)
    _merge(*sources, f"out={tmp_path}/one")
    assert (merged / "merge.json").stat().st_mtime_ns == written
    weights.write_bytes(other)
    os.utime(weights, (1, 1))
    _merge(*sources, f"out={tmp_path}/one")
    (again,) = set((tmp_path / "one/merged").iterdir()) - {merged}
    assert MergeRecord.read(again / "merge.json").sha256 != MergeRecord.read(merged / "merge.json").sha256
    assert (merged / "merge.json").stat().st_mtime_ns == written


def test_a_merge_is_made_anew_when_its_strategy_has_changed(tmp_path: Path) -> None:
    path, code = toy.write(tmp_path / "a", toy.model(0)), tmp_path / "strategy.py"
    source, target = Source(path, "a"), tmp_path / "merged"
    assert not is_current(target, [source], None)
    merge_models(MergeSpec(toy.strategy("soup"), [source]), target)
    code.touch()
    os.utime(code, (1, 1))
    assert is_current(target, [source], None, code)
    assert not is_current(target, [source], path, code)
    later = (target / "merge.json").stat().st_mtime + 1
    os.utime(code, (later, later))
    assert not is_current(target, [source], None, code)


@pytest.mark.parametrize(
    ("word", "other", "same"),
    [
        ("greedy_soup", "optimized_metric=dev/sts", False),
        ("greedy_soup", "evaluation.max_dev_queries=5", False),
        ("lm_cocktail", "optimized_metric=dev/sts", True),  # looks at losses
    ],
)
def test_what_a_merge_depends_on_is_in_its_name(word: str, other: str, same: bool) -> None:
    base, models = Path("base"), [Source(Path("a"), "a")]

    def name(*overrides: str) -> str:
        cfg = _cfg("merge", ["sources=[a]", f"merge={word}", *overrides])
        strategy = merge.strategy_of(cfg)
        assert strategy is not None
        return Finalize(cfg, strategy, models, base, None, ProbeMaker(cfg, {})).name

    assert (name() == name(other)) is same


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("data.datasets.facts.batch_size=4", True),
        ("data.datasets.facts.max_rows=100", True),
        ("seed=7", True),  # recipes are compared over seeds
        ("data.datasets.facts.dev_share=0.5", False),
        ("evaluation.max_dev_queries=5", False),
    ],
)
def test_what_only_trains_does_not_change_how_models_are_measured(other: str, same: bool) -> None:
    one, two = (_cfg("train", ["data=sample", *given]) for given in ([], [other]))
    assert (evaluation_hash(one) == evaluation_hash(two)) is same


def test_a_benchmark_is_something_to_measure_on() -> None:
    assert has_tests(_cfg("merge", ["sources=[a]", "evaluation=mteb_eng_v2"]))
    assert not has_tests(_cfg("merge", ["sources=[a]"]))
    compose.check_command("merge", ["sources=[a,b]", "evaluation=mteb_eng_v2", "ensemble=true"])


def test_no_recipe() -> None:
    with pytest.raises(
        ConfigError, match=r"^recipe=nowhere.json: no such file. Give the merge.json that a merge wrote.$"
    ):
        _merge("recipe=nowhere.json", "evaluation=none", "logger=none")


def test_what_the_sources_do_not_share_is_said(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models/s1/vocab.txt").write_text("words")
    _merge(*sources, f"out={tmp_path}/one")
    said = " ".join(capsys.readouterr().out.split())
    assert "s1 differs from s0 in vocab.txt; the merged model has those of s0." in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of peft and of Lightning
def test_adapters_are_measured_as_what_they_are_folded_to(tiny_model: Path, tmp_path: Path) -> None:
    """Merged as they are, and with a probe; evaluated as models."""
    import peft
    from transformers import AutoModel

    toy_data = write_toy(tmp_path / "toy")
    for seed in range(2):
        torch.manual_seed(seed)
        adapted = peft.get_peft_model(AutoModel.from_pretrained(tiny_model), peft.LoraConfig(target_modules=["query"]))
        for name, parameter in adapted.named_parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape) * (".lora_" in name)
        adapted.save_pretrained(tmp_path / f"models/a{seed}")
    overrides = [
        f"sources=[{tmp_path}/models/a0,{tmp_path}/models/a1]", f"base={tiny_model}", f"out={tmp_path}/out", "logger=none",
        "data=sample", "data.datasets.phrases.score_range=[0,1]", "probe.num_rows=32",
        *(f"data.datasets.{name}.path={toy_data}/{path}" for name, path in (("facts", "pairs"), ("phrases", "scores"))),
    ]  # fmt: skip
    _merge(*overrides, "merge=lm_cocktail")
    results = json.loads((tmp_path / "out/results.json").read_text())["models"]
    assert {"base", "a0", "a1"} < results.keys()
    folded = load_file(tmp_path / "out/folded/a0/model/model.safetensors")
    (merged,) = (tmp_path / "out/merged").glob("lm_cocktail-*")
    record = json.loads((merged / "merge.json").read_text())
    assert record["sources"][0]["path"].endswith("models/a0")
    name = "encoder.layer.0.attention.self.query.weight"
    original = load_file(tiny_model / "model.safetensors")
    assert not torch.equal(folded[name], original[name])
    other = "encoder.layer.0.attention.self.key.weight"
    assert torch.equal(folded[other], original[other])


def test_names_of_sources_are_no_paths() -> None:
    assert unique_names.distinct([Path("/x"), Path("/a/x")]) == ["x", "a-x"]
    assert unique_names.distinct([Path("/a/x"), Path("/a/base")], taken=["base"]) == ["a-x", "a-base"]


def _names(file: Path) -> list[str]:
    return [source["name"] for source in json.loads(file.read_text())["sources"]]


def test_the_folder_of_a_merge_as_a_source_and_as_a_base(sources: list[str], tmp_path: Path) -> None:
    _merge(*sources, "merge=soup", f"out={tmp_path}/one")
    (first,) = (tmp_path / "one/merged").iterdir()
    given = [f"sources=[{first},{tmp_path}/models/s1]", f"base={first}", *sources[1:]]
    _merge(*given, "merge=task_arithmetic", f"out={tmp_path}/two")
    (second,) = (tmp_path / "two/merged").iterdir()
    assert _names(second / "merge.json") == [first.name, "s1"]
    record = MergeRecord.read(second / "merge.json")
    assert [model.path for model in (record.sources[0], record.models[-1])] == [str(first / "model")] * 2


@pytest.mark.parametrize("out", ["models/s0", "models/s0/runs", "models/s1/a/b", "base/x"])
def test_out_inside_a_model(out: str, sources: list[str], tmp_path: Path) -> None:
    toy.write(tmp_path / "base", toy.model(0))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        ConfigError, match=rf"^out=\S+/{out} is inside {tmp_path}/\S+, which is to be merged. Choose a diff"
    ):
        _merge(*sources, f"base={tmp_path}/base", f"out={tmp_path}/{out}")
    assert sorted(tmp_path.rglob("*")) == before


def test_snapshots_of_the_hub(tmp_path: Path) -> None:
    paths = []
    for number, name in enumerate(("law", "tax")):
        snapshot = toy.write(tmp_path / f"hub/models--org--{name}/snapshots/{number:040}", toy.model(number))
        blobs = snapshot.parent.parent / "blobs"
        blobs.mkdir()
        for file in [*snapshot.iterdir()]:
            file.rename(blobs / file.name)
            file.symlink_to(f"../../blobs/{file.name}")
        paths.append(str(snapshot))
    _merge(f"sources=[{','.join(paths)}]", "evaluation=none", "logger=none", "merge=soup", f"out={tmp_path}/out")
    (merged,) = (tmp_path / "out/merged").iterdir()
    assert _names(merged / "merge.json") == ["law", "tax"]
    assert not (merged / "model/config.json").is_symlink()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "modules.json", "model.safetensors.index.json"])
def test_a_pipe_does_not_hang(name: str, sources: list[str], tmp_path: Path) -> None:
    (tmp_path / f"models/s0/{name}").unlink(missing_ok=True)
    os.mkfifo(tmp_path / f"models/s0/{name}")
    with pytest.raises(CheckpointError, match=rf"s0/{name}: expected a file, found a pipe or a device"):
        _merge(*sources, "merge=soup", f"out={tmp_path}/out")
    assert not list((tmp_path / "out/merged").glob("[!.]*"))


def _with_tokens(sources: list[str], tmp_path: Path) -> None:
    """Give the two models the same 50 tokens, in opposite orders."""
    tokens = [f"t{number}" for number in range(50)]
    for number, order in enumerate((tokens, tokens[::-1])):
        (tmp_path / f"models/s{number}/vocab.txt").write_text("\n".join(order))


def test_vocabularies_are_merged_by_token(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _with_tokens(sources, tmp_path)
    with pytest.raises(
        CheckpointMismatch, match=r"tokens: \"t0\" with id 0 in 's0', id 49 \(and 49 more tokens\) in 's1'"
    ):
        _merge(*sources, f"out={tmp_path}/no")
    _merge(*sources, "vocabulary=first", f"out={tmp_path}/one")
    (first,) = (tmp_path / "one/merged").iterdir()
    name = "embeddings.word.weight"
    stored = [load_file(tmp_path / f"models/s{number}/model.safetensors")[name] for number in range(2)]
    merged = load_file(first / "model/model.safetensors")[name]
    torch.testing.assert_close(merged, (stored[0] + stored[1].flip(0)) / 2)
    assert "s1: rows of embeddings.word.weight in the order of the vocabulary of s0: 50 of its 50 tokens" in " ".join(
        capsys.readouterr().out.split()
    )
    _merge(f"recipe={first}/merge.json", "evaluation=none", "logger=none", f"out={tmp_path}/two")
    (second,) = (tmp_path / "two/merged").iterdir()
    assert torch.equal(load_file(second / "model/model.safetensors")[name], merged)


def test_what_differs_is_allowed_by_name(sources: list[str], tmp_path: Path) -> None:
    """Each of these options is another merge, with its own folder."""
    _with_tokens(sources, tmp_path)
    for options in (["merge.allow=[tokens]"], ["vocabulary=first"]):
        _merge(*sources, *options, f"out={tmp_path}/out")
    assert len([path for path in (tmp_path / "out/merged").iterdir() if path.name.startswith("soup-")]) == 2
    with pytest.raises(CheckpointMismatch, match=r"tokens:"):
        _merge(*sources, f"out={tmp_path}/out")


@pytest.mark.parametrize("word", ["union", "last", "s0"])
def test_an_unknown_vocabulary(word: str) -> None:
    with pytest.raises(ConfigError, match=rf"vocabulary={word}: Invalid value '?{word}"):
        compose.check_command("merge", ["sources=[a,b]", f"vocabulary={word}"])
