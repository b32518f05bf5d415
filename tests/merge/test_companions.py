import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from lightning_embed.errors import CheckpointError
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.companions import chosen_files, copy_files, differing_files
from lightning_embed.merge.checkpoint.modules import layout_of
from lightning_embed.merge.checkpoint.name_matching import Names
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.engine import MergeSpec, merge_models
from tests.merge import toy, zoo

FILES = {
    "config.json": '{"model_type": "bert", "dtype": "float32", "transformers_version": "5"}',
    "modules.json": '[{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]',
    "1_Pooling/config.json": '{"pooling_mode": "mean"}',
    "2_Dense/config.json": '{"in_features": 8}',
    "2_Dense/model.safetensors": "a head of its own",
    "LICENSE": "free",
    "trainer_state.json": "private",
    "data.jsonl": "private",
    "vocab.txt": "words",
    "README.md": "card",
    "model.safetensors": "weights",
    "pytorch_model.bin": "weights",
    "model.safetensors.index.json": "{}",
    "training_args.bin": "pickle",
    "onnx/model.onnx": "weights",
    "checkpoint-10/optimizer.pt": "state",
    ".gitattributes": "lfs",
}


def _directory(folder: Path, **changes: str | None) -> Path:
    for name, content in (FILES | changes).items():
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
    return folder


@dataclass(frozen=True)
class _Unread(ModelDirectory):
    """A model of which no weights are read, in one or several folders."""

    several: tuple[Path, ...]

    @property
    def folders(self) -> list[Path]:
        return [*self.several]


def _unread(*folders: Path) -> ModelDirectory:
    layout = layout_of(folders[0])
    return _Unread(folders[-1], folders[-1].name, None, {}, {}, Names({}, []), folders, layout=layout)


def test_what_belongs_to_a_model_is_copied(tmp_path: Path) -> None:
    files = chosen_files([_unread(_directory(tmp_path / "a"))])
    copy_files(files, tmp_path / "b", {"config.json": {"dtype": "bfloat16"}})
    copied = {str(path.relative_to(tmp_path / "b")) for path in (tmp_path / "b").rglob("*") if path.is_file()}
    expected = {"config.json", "modules.json", "1_Pooling/config.json", "2_Dense/config.json", "vocab.txt", "LICENSE"}
    assert copied == expected, "a card tells of its own model alone"
    assert json.loads((tmp_path / "b/config.json").read_text())["dtype"] == "bfloat16"


def test_differences(tmp_path: Path) -> None:
    first = _directory(tmp_path / "a")
    changes: dict[str, str | None] = {
        "config.json": '{"transformers_version": "4", "torch_dtype": "float16", "model_type": "bert"}',  # incidental
        "README.md": "another card",  # incidental
        "pytorch_model.bin": "other weights",  # not copied
        "1_Pooling/config.json": '{"pooling_mode": "cls"}',
        "2_Dense/config.json": '{"in_features": 9}',
        "LICENSE": "none",  # incidental
        "vocab.txt": None,
    }
    merged = [_unread(first)]
    assert differing_files(merged, _unread(_directory(tmp_path / "same"))) == []
    found = differing_files(merged, _unread(_directory(tmp_path / "b", **changes)))
    assert found == ["1_Pooling/config.json", "2_Dense/config.json", "vocab.txt"]


def test_of_two_folders_the_last_counts(tmp_path: Path) -> None:
    base = _directory(tmp_path / "base")
    changes: dict[str, str | None] = dict.fromkeys(FILES) | {"vocab.txt": "more words", "adapter_config.json": "{}"}
    adapter = _directory(tmp_path / "adapter", **changes)
    copy_files(chosen_files([_unread(base, adapter)]), tmp_path / "b", {})
    assert (tmp_path / "b/vocab.txt").read_text() == "more words"
    assert (tmp_path / "b/config.json").exists()
    assert not (tmp_path / "b/adapter_config.json").exists()
    assert differing_files([_unread(base)], _unread(base, adapter)) == ["vocab.txt"]


def test_broken_json(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"modules.json: expected JSON, .* Fix it"):
        _unread(_directory(tmp_path / "a", **{"modules.json": "["}))


def test_remarks(tmp_path: Path) -> None:
    _, tensors = toy.family(3)
    tensors[1] |= {"pooler.weight": torch.ones(2), "embeddings.position_ids": torch.arange(3)}
    paths = [toy.write(tmp_path / name, t) for name, t in zip("abc", tensors, strict=True)]
    for number, path in enumerate(paths):
        (path / "vocab.txt").write_text(f"words {number > 1}")
        (path / "prompts.json").write_text(f"[{number}]")
    how = toy.strategy("soup", allow=["tokens"])
    record = merge_models(MergeSpec(how, [Source(p, p.name) for p in paths], paths[0]), tmp_path / "merged")
    assert record.remarks() == [
        "b differs from a in prompts.json; the merged model has those of a.",
        "c differs from a in prompts.json, vocab.txt; the merged model has those of a.",
        "Left out of b: embeddings.position_ids.",
        "Taken from b unchanged, because not all models have them: pooler.weight.",
        'c: tokens: missing (a: "words False" with id 0); allowed.',
    ]
    many = replace(record.sources[0], dropped=[f"cls.{number}" for number in range(5)])
    assert replace(record, sources=[many], base=None).remarks() == ["Left out of a: cls.0, cls.1, cls.2 and 2 more."]


def _pooled(folder: Path, tiny_model: Path, seed: int, mode: str) -> Path:
    body = zoo.Transformer(str(tiny_model))
    torch.manual_seed(seed)
    for parameter in body.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    modules = [body, zoo.Pooling(32, pooling_mode=mode)]
    zoo.SentenceTransformer(modules=modules, prompts={"query": "ask: "}, device="cpu").save(str(folder))
    return folder


def _plain(folder: Path) -> Path:
    """The directory without what sentence-transformers adds."""
    for name in ("modules.json", "1_Pooling/config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    (folder / "sentence_bert_config.json").unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize("owner", ["second", "third", "base"])
def test_pooling_of_a_model_that_is_not_the_first(owner: str, tiny_model: Path, tmp_path: Path) -> None:
    names = ["first", "second", "third", "base"]
    paths = {name: _pooled(tmp_path / name, tiny_model, seed, "cls") for seed, name in enumerate(names)}
    for name in names:
        if name != owner:
            _plain(paths[name])
    sources = [Source(paths[name], name) for name in names[:3]]
    record = merge_models(MergeSpec(toy.strategy("soup"), sources, paths["base"]), tmp_path / "merged")
    merged = zoo.SentenceTransformer(str(tmp_path / "merged/model"), device="cpu")
    assert (merged[1].pooling_mode, merged.prompts["query"]) == ("cls", "ask: ")
    zoo.close(zoo.tensors(tmp_path / "merged/model"), zoo.mean([paths[name] for name in names[:3]]))
    assert record.remarks() == [
        f"first has no modules.json: pooling and prompts of the merged model are those of {owner}."
    ]


def test_what_is_not_copied_is_not_compared(tiny_model: Path, tmp_path: Path) -> None:
    paths = [_pooled(tmp_path / name, tiny_model, seed, "mean") for seed, name in enumerate("ab")]
    for name in ("trainer_state.json", "data.jsonl", "README.md", "LICENSE"):
        (paths[0] / name).write_text("{}")
    config = json.loads((paths[0] / "config.json").read_text())
    (paths[0] / "config.json").write_text(json.dumps(config | {"_name_or_path": "/home/me"}))
    record = merge_models(MergeSpec(toy.strategy("soup"), [Source(p, p.name) for p in paths]), tmp_path / "merged")
    assert record.remarks() == []
    names = {file.name for file in (tmp_path / "merged/model").iterdir()}
    assert "LICENSE" in names
    assert not names & {"trainer_state.json", "data.jsonl", "README.md"}
    assert "/home/me" not in (tmp_path / "merged/model/config.json").read_text()
