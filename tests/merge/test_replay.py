import json
import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from lightning_embed import registry
from lightning_embed.config import schema
from lightning_embed.errors import CheckpointError, ConfigError
from lightning_embed.merge import Source, Weighting
from lightning_embed.merge.engine import MergeSpec, OutputFormat, merge_models
from lightning_embed.merge.preparation import Preparation
from lightning_embed.merge.record.record import MergeRecord
from lightning_embed.merge.replay import Replay
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe

RULES = ["encoder.layer.0.*=0.5", "embeddings.*=0"]
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "weights": ("soup", {"weighting": Weighting.given, "weights": [0.1, 0.7, 1.3]}, {}),
    "sizes": ("slerp", {"weighting": Weighting.size}, {}),
    "layers": ("task_arithmetic", {"layers": RULES}, {}),
    "seed": ("dare", {}, {"seed": 7}),
    "out_dtype": ("soup", {}, {"out_dtype": "bfloat16"}),
    "shards": ("ties", {}, {"max_shard_bytes": 300}),
}


def _run(folder: Path, count: int = 3) -> tuple[list[Source], Path]:
    """A run folder with sources and a base."""
    base, sources = toy.family(count)
    specs = [Source(toy.write(folder / f"models/s{i}", tensors), f"s{i}", 10 + i) for i, tensors in enumerate(sources)]
    return specs, toy.write(folder / "models/base", base)


def _repeat(file: Path, target: Path) -> MergeRecord:
    recipe = Replay.read(file)
    return recipe.repeat(schema.built("merge", recipe.options), target)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "model").iterdir()}


@pytest.mark.parametrize("word", registry.names("merge"))
def test_every_strategy(word: str, tmp_path: Path) -> None:
    """At its defaults, and in a run folder that has been moved; nothing is prepared, and no probe is needed."""
    searches = "steps" in {field.name for field in fields(registry.get("merge", word))}
    how = toy.strategy(word, **({"steps": 20} if searches else {}))
    count = next(count for count in (3, 2, 1) if count in how.num_sources)
    sources, base = _run(tmp_path / "run", count)
    probe = QuadraticProbe.around(toy.family(1)[0]) if how.needs_probe else None
    merge_models(MergeSpec(how, sources, base, 3), tmp_path / "run/merged/one", preparation=Preparation(probe))
    (tmp_path / "run").rename(tmp_path / "moved")
    _repeat(tmp_path / "moved/merged/one/merge.json", tmp_path / "again")
    assert _bytes(tmp_path / "again") == _bytes(tmp_path / "moved/merged/one")


@pytest.mark.parametrize(("word", "options", "more"), VARIANTS.values(), ids=VARIANTS.keys())
def test_options(word: str, options: Mapping[str, Any], more: Mapping[str, Any], tmp_path: Path) -> None:
    sources, base = _run(tmp_path)
    how = toy.strategy(word, **options)
    output = OutputFormat(**{key: value for key, value in more.items() if key != "seed"})
    first = merge_models(MergeSpec(how, sources, base, more.get("seed", 0)), tmp_path / "merged/one", output=output)
    second = _repeat(tmp_path / "merged/one/merge.json", tmp_path / "merged/two")
    assert _bytes(tmp_path / "merged/two") == _bytes(tmp_path / "merged/one")
    for key in ("options", "plan", "geometry", "seed", "out_dtype", "sources", "base", "max_shard_bytes"):
        assert getattr(second, key) == getattr(first, key), key
    assert schema.built("merge", Replay.read(tmp_path / "merged/two/merge.json").options) == how


def test_the_stored_plan_is_applied(tmp_path: Path) -> None:
    """Coefficients that no soup would find."""
    sources, base = _run(tmp_path, 2)
    merge_models(MergeSpec(toy.strategy("soup"), sources, base), tmp_path / "merged/one")
    file = tmp_path / "merged/one/merge.json"
    record = json.loads(file.read_text())
    record["plan"]["coefficients"]["*"] = [0.25, 0.5]
    file.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"is complete, but differs from the record"):
        _repeat(file, tmp_path / "two")
    one, other, found = (toy.read(path) for path in (sources[0].path, sources[1].path, tmp_path / "two/model"))
    toy.close({name: found[name] for name in toy.SHAPES}, {n: 0.25 * one[n] + 0.5 * other[n] for n in toy.SHAPES}, 1e-6)


def test_a_record_of_an_earlier_version(tmp_path: Path) -> None:
    """Its geometry has sentences in place of findings."""
    sources, base = _run(tmp_path)
    merge_models(MergeSpec(toy.strategy("soup"), sources, base), tmp_path / "merged/one")
    file = tmp_path / "merged/one/merge.json"
    record = json.loads(file.read_text())
    assert {"code", "facts"} == record["geometry"]["expectations"][0].keys()
    record["geometry"]["expectations"] = ["The task vectors are nearly orthogonal."]
    file.write_text(json.dumps(record))
    _repeat(file, tmp_path / "merged/two")
    assert _bytes(tmp_path / "merged/two") == _bytes(tmp_path / "merged/one")


def test_times(tmp_path: Path) -> None:
    sources, base = _run(tmp_path)
    record = merge_models(MergeSpec(toy.strategy("ties"), sources, base), tmp_path / "merged/one")
    assert 0 < record.prepare_seconds + record.merge_seconds <= record.seconds
    again = _repeat(tmp_path / "merged/one/merge.json", tmp_path / "two")
    assert again.prepare_seconds < record.prepare_seconds


# refusal


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """A merge.json, of two sources and a base."""
    sources, base = _run(tmp_path, 2)
    merge_models(MergeSpec(toy.strategy("soup"), sources, base), tmp_path / "merged/one")
    return tmp_path / "merged/one/merge.json"


@pytest.mark.parametrize("name", ["s1", "base"])
def test_a_model_has_changed(name: str, merged: Path, tmp_path: Path) -> None:
    file = tmp_path / "models" / name / "model.safetensors"
    tensors = load_file(file)
    tensors["encoder.layer.1.scale"] += 1e-6
    save_file(tensors, file)
    with pytest.raises(CheckpointError) as caught:
        _repeat(merged, tmp_path / "two")
    message = f"{file} is not the file that {merged} merges: its SHA-256 differs. Put that back, or merge again."
    assert str(caught.value) == message
    assert not (tmp_path / "two").exists()


def test_what_the_merged_model_has_from_the_first_source_has_changed(tmp_path: Path) -> None:
    sources, base = _run(tmp_path, 2)
    pooling = sources[0].path / "1_Pooling/config.json"
    pooling.parent.mkdir()
    pooling.write_text('{"pooling_mode": "mean"}')
    (sources[0].path / "modules.json").write_text('[{"path": "1_Pooling"}]')
    merge_models(MergeSpec(toy.strategy("soup"), sources, base), tmp_path / "merged/one")
    recipe = tmp_path / "merged/one/merge.json"
    (sources[0].path / "README.md").write_text("another card")
    _repeat(recipe, tmp_path / "two")
    pooling.write_text('{"pooling_mode": "cls"}')
    with pytest.raises(CheckpointError, match=r"1_Pooling/config.json is not the file that .* merges"):
        _repeat(recipe, tmp_path / "three")


def test_a_model_is_missing(merged: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "models/s1")
    with pytest.raises(CheckpointError) as caught:
        _repeat(merged, tmp_path / "two")
    message = f"{tmp_path}/models/s1 does not exist, and {merged} merges it. Put it back, or merge again."
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "a different machine may round differently."),
        ({"torch": "1.0"}, r"torch [0-9.+a-z]+ \(then 1.0\)."),
    ],
)
def test_another_result(changes: Mapping[str, str], why: str, merged: Path, tmp_path: Path) -> None:
    record = json.loads(merged.read_text())
    record["sha256"]["model.safetensors"] = "0" * 64
    record["versions"] |= changes
    merged.write_text(json.dumps(record))
    message = rf"two/model/model.safetensors is complete, but differs from the record in .*merge.json \(SHA-256 0{{12}}...\): {why}$"
    with pytest.raises(CheckpointError, match=message):
        _repeat(merged, tmp_path / "two")
    assert (tmp_path / "two/model/model.safetensors").exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"sources": [{}], "base": null}', '{"strategy": "soup"}'])
def test_no_recipe(text: str, merged: Path) -> None:
    merged.write_text(text)
    with pytest.raises(ConfigError, match=r"^recipe=.*merge.json is not a merge.json of this version \(.*again.$"):
        Replay.read(merged)
    with pytest.raises(ConfigError, match=r"^recipe=.*elsewhere: no such file. Give the merge.json"):
        Replay.read(merged.with_name("elsewhere"))


def test_nothing_was_merged(merged: Path) -> None:
    record: dict[str, Any] = json.loads(merged.read_text())
    merged.write_text(json.dumps(record | {"strategy": "none", "sha256": {}}))
    with pytest.raises(ConfigError, match=r"merge=none made no model"):
        Replay.read(merged)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighing": "size"}, r"^merge=soup: .*weighing"),
        ({"weighting": "wide"}, r"^merge=soup: .*wide"),
        ({"weighting": "given"}, r"^weighting=given needs weights"),
    ],
)
def test_options_of_another_time(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        schema.built("merge", {"name": "soup", **options})
    assert "\n" not in str(caught.value)


def test_a_word_that_nobody_has_registered() -> None:
    with pytest.raises(ConfigError, match=r"No merge=sup. Did you mean 'soup'"):
        schema.built("merge", {"name": "sup"})
