"""Valid JSON of a wrong shape in what a merge reads: one sentence that names the file, never a traceback."""

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_embed.errors import CheckpointError, ConfigError
from lightning_embed.merge import Source
from lightning_embed.merge.engine import MergeSpec, merge_models
from lightning_embed.merge.record.freshness import is_current
from lightning_embed.merge.record.record import MergeRecord, read_record
from lightning_embed.merge.replay import Replay
from tests.merge import toy

INDEX = "model.safetensors.index.json"
ADAPTER = {"peft_type": "LORA", "lora_alpha": 8}
FILES: list[tuple[str, Any]] = [
    (INDEX, []),
    (INDEX, {}),
    (INDEX, {"weight_map": []}),
    (INDEX, {"weight_map": {"a": 1}}),
    (INDEX, {"weight_map": None}),
    (INDEX, {"weight_map": {"a": "../elsewhere/model.safetensors"}}),
    (INDEX, {"weight_map": {"a": "/etc/passwd"}}),
    ("modules.json", {}),
    ("modules.json", [1]),
    ("modules.json", [{"path": 1}]),
    ("modules.json", [{"type": "Transformer"}]),
    ("modules.json", [{"path": "../.."}]),
    ("modules.json", [{"path": "/etc"}]),
    ("config.json", []),
    ("config.json", "bert"),
    ("config.json", None),
]
TOKENIZERS: list[tuple[str, Any]] = [
    *(("tokenizer.json", wrong) for wrong in (
        3, [], {"model": 3}, {"model": {"vocab": 3}}, {"model": {"vocab": [1]}}, {"model": {"vocab": {"a": "b"}}},
        {"added_tokens": {"a": 1}}, {"added_tokens": [1]}, {"added_tokens": [{"id": 1}]},
    )),
    *(("tokenizer_config.json", wrong) for wrong in (
        3, [1], {"added_tokens_decoder": [1]}, {"added_tokens_decoder": {"x": "y"}},
    )),
    ("added_tokens.json", {"a": "b"}),
    ("special_tokens_map.json", [1]),
    ("vocab.json", {"a": [1]}),
    ("1_Pooling/config.json", {"pooling_mode": 3}),
    ("1_Pooling/config.json", 3),
]  # fmt: skip
ADAPTERS: list[Any] = [
    [],
    {},
    {"peft_type": 3},
    {"peft_type": "LORA"},
    {**ADAPTER, "lora_alpha": "8"},
    {**ADAPTER, "alpha_pattern": [1]},
    {**ADAPTER, "alpha_pattern": {"a": "b"}},
    {**ADAPTER, "alpha_pattern": {"(": 1}},
    {**ADAPTER, "base_model_name_or_path": 3},
    {**ADAPTER, "use_rslora": "yes"},
    {**ADAPTER, "fan_in_fan_out": []},
    "LORA",
]
HEADERS: list[Any] = [
    [],
    {"a": 1},
    {"a": {"dtype": "F32"}},
    {"a": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}},
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}},
    {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
    {"a": {"dtype": "words", "shape": [2], "data_offsets": [0, 8]}},
    {"__metadata__": [], "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}},
]


def _merge(folder: Path, target: Path, base: Path | None = None) -> None:
    merge_models(MergeSpec(toy.strategy("soup"), [Source(folder, "a")], base), target)


@pytest.mark.parametrize(("name", "content"), TOKENIZERS)
def test_a_file_that_is_compared(name: str, content: Any, tmp_path: Path) -> None:
    sources = [toy.write(tmp_path / each, toy.model(0)) for each in "ab"]
    modules = [{"type": "Transformer", "path": ""}, {"type": "Pooling", "path": "1_Pooling"}]
    for source in sources:
        (source / "modules.json").write_text(json.dumps(modules))
        (source / "1_Pooling").mkdir()
        (source / "1_Pooling/config.json").write_text("{}")
        first: dict[str, Any] = {"tokenizer_config.json": {}, "added_tokens.json": {}, "vocab.json": {"x": 0}}
        if name == "tokenizer.json":
            first = {name: {"model": {"vocab": {"x": 0}}}}
        for file, usual in first.items():
            (source / file).write_text(json.dumps(usual))
    (sources[1] / name).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"/b(/|: ).* found .*\. (Copy|Fix) ") as refused:
        merge_models(MergeSpec(toy.strategy("soup"), [Source(s, s.name) for s in sources]), tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "content"), FILES)
def test_a_file_of_a_source(name: str, content: Any, tmp_path: Path) -> None:
    folder = toy.write(tmp_path / "a", toy.model(0))
    if name.endswith("index.json"):  # beside a single file, it is not read
        (folder / "model.safetensors").unlink()
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=rf"a/{name}: .*\. (Copy the model again|Fix it.*)\.$") as refused:
        _merge(folder, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ADAPTERS)
def test_the_configuration_of_an_adapter(content: Any, tmp_path: Path) -> None:
    base = toy.write(tmp_path / "base", toy.model(0))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"a/adapter_config\.json: .*\. Save the adapter again\.$"):
        _merge(tmp_path / "a", tmp_path / "out", base)


@pytest.mark.parametrize("header", HEADERS)
def test_the_header_of_weights(header: Any, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (tmp_path / "a" / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(CheckpointError, match=r"a/model\.safetensors is not a complete safetensors file"):
        _merge(tmp_path / "a", tmp_path / "out")


RECORDS: list[tuple[str, Any]] = [
    ("strategy", 3), ("sources", None), ("sources", [{}]), ("sources", {"a": 1}), ("sha256", []), ("sha256", {"a": None}),
    ("plan", []), ("options", "none"), ("geometry", []), ("geometry", {"groups": []}), ("geometry", {"groups": {"a": 1}}),
    ("seconds", "long"), ("bytes", None), ("versions", []), ("copied", [1]), ("statistics", {"a": 1}), ("base", "base"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), RECORDS)
def test_a_record_is_made_again_or_refused(key: str, value: Any, tmp_path: Path) -> None:
    """A merge that finds it merges again; a report and a replay name it with the remedy."""
    base, tensors = toy.family(2)
    paths = [toy.write(tmp_path / f"s{number}", each) for number, each in enumerate(tensors)]
    sources, start, target = (
        [Source(path, path.name) for path in paths],
        toy.write(tmp_path / "base", base),
        tmp_path / "out",
    )
    merge_models(MergeSpec(toy.strategy("soup"), sources, start), target)
    file = target / "merge.json"
    assert read_record(file)["strategy"] == MergeRecord.read(file).strategy == "soup"
    assert is_current(target, sources, start)
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    assert key == "geometry" or not is_current(target, sources, start)
    reader = MergeRecord.read if key in ("versions", "copied", "statistics", "sha256") else read_record
    with pytest.raises(
        CheckpointError, match=rf"merge\.json: .*\. Delete {target}: the same command makes it again\.$"
    ):
        reader(file)
    if key != "geometry":  # no part of the merge itself
        with pytest.raises(ConfigError, match=r"merge\.json is not a merge.json of this version"):
            Replay.read(file)
    merge_models(MergeSpec(toy.strategy("soup"), sources, start), target)
    assert is_current(target, sources, start)
