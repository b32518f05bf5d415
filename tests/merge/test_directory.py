import json
import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightning_embed.errors import CheckpointError
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.directory import copy_files, differing_files, replaced
from lightning_embed.merge.engine import MergeSpec, merge_models
from tests.merge import toy

FILES = {
    "config.json": '{"model_type": "bert", "dtype": "float32", "transformers_version": "5"}',
    "modules.json": '[{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]',
    "1_Pooling/config.json": '{"pooling_mode": "mean"}',
    "2_Dense/model.safetensors": "a head of its own",
    "tokenizer.txt": "words",
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


def test_all_but_the_weights_is_copied(tmp_path: Path) -> None:
    copy_files([_directory(tmp_path / "a")], tmp_path / "b", "bfloat16")
    copied = {str(path.relative_to(tmp_path / "b")) for path in (tmp_path / "b").rglob("*") if path.is_file()}
    expected = {"config.json", "modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors", "tokenizer.txt"}
    assert copied == expected, "a card tells of its own model alone"
    assert json.loads((tmp_path / "b/config.json").read_text())["dtype"] == "bfloat16"


def test_differences(tmp_path: Path) -> None:
    first = _directory(tmp_path / "a")
    changes: dict[str, str | None] = {
        "config.json": '{"transformers_version": "4", "torch_dtype": "float16", "model_type": "bert"}',  # incidental
        "README.md": "another card",  # incidental
        "pytorch_model.bin": "other weights",  # not copied
        "1_Pooling/config.json": '{"pooling_mode": "cls"}',
        "2_Dense/model.safetensors": "another head",
        "tokenizer.txt": None,
    }
    assert differing_files([first], [_directory(tmp_path / "same")]) == []
    found = differing_files([first], [_directory(tmp_path / "b", **changes)])
    assert found == ["1_Pooling/config.json", "2_Dense/model.safetensors", "tokenizer.txt"]


def test_of_two_folders_the_last_counts(tmp_path: Path) -> None:
    base = _directory(tmp_path / "base")
    changes: dict[str, str | None] = dict.fromkeys(FILES) | {"tokenizer.txt": "more words", "adapter_config.json": "{}"}
    adapter = _directory(tmp_path / "adapter", **changes)
    copy_files([base, adapter], tmp_path / "b", None)
    assert (tmp_path / "b/tokenizer.txt").read_text() == "more words"
    assert (tmp_path / "b/config.json").exists()
    assert not (tmp_path / "b/adapter_config.json").exists()
    assert differing_files([base], [base, adapter]) == ["tokenizer.txt"]


def test_broken_json(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"modules.json: expected JSON, .* Fix it"):
        copy_files([_directory(tmp_path / "a", **{"modules.json": "["})], tmp_path / "b", None)


def test_leftovers_of_a_killed_merge(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as killed:
        owner = f"{socket.gethostname()}.{killed.pid}"
    for kind in ("partial", "old"):
        (tmp_path / f".out.{kind}.{owner}").mkdir()
        (tmp_path / f".out.{kind}.{owner}" / "merge.json").write_text(kind)
    with replaced(tmp_path / "out") as folder:
        # killed between two renames: the earlier merge is put back before anything else
        assert (tmp_path / "out/merge.json").read_text() == "old"
        (folder / "merge.json").write_text("new")
    assert (tmp_path / "out/merge.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_processes_may_write_one_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"
    with replaced(target) as ours:
        (ours / "merge.json").write_text("ours")
        with monkeypatch.context() as theirs:
            theirs.setattr(os, "getpid", os.getppid)
            with replaced(target) as folder:
                (folder / "merge.json").write_text("theirs")
            assert ours.exists()
        assert (target / "merge.json").read_text() == "theirs"
    assert (target / "merge.json").read_text() == "ours"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("target", ["merges/out", "out"])
def test_what_is_not_the_disks_fault_is_not_called_so(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere/train.jsonl"), replaced(Path(target)):
        Path("/nowhere/train.jsonl").read_text()


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    source = Source(toy.write(tmp_path / "a", toy.model(0)), "a")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file exists and holds no merge.json, so no merge wrote it"):
        merge_models(MergeSpec(toy.strategy("soup"), [source]), tmp_path / "file")
    with pytest.raises(
        CheckpointError, match=r"file/merged cannot be written \(.*Not a directory.*\). Choose a different target"
    ):
        merge_models(MergeSpec(toy.strategy("soup"), [source]), tmp_path / "file" / "merged")


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


def test_merged_directory_opens_with_sentence_transformers(tiny_model: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    paths = []
    for number, mode in enumerate(("mean", "cls")):
        body = Transformer(str(tiny_model))
        torch.manual_seed(number)
        for parameter in body.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
        modules = [body, Pooling(32, pooling_mode=mode), Dense(32, 16), Normalize()]
        paths.append(tmp_path / mode)
        SentenceTransformer(modules=modules, prompts={"query": f"ask {mode}: "}, device="cpu").save(str(paths[-1]))
    record = merge_models(
        MergeSpec(toy.strategy("soup", allow=["pooling"]), [Source(p, p.name) for p in paths], tiny_model),
        tmp_path / "merged",
    )
    assert record.sources[1].differing_files == [
        "1_Pooling/config.json", "2_Dense/model.safetensors", "config_sentence_transformers.json",
    ]  # fmt: skip
    merged, *sources = (SentenceTransformer(str(p), device="cpu") for p in (tmp_path / "merged/model", *paths))
    assert merged.prompts["query"] == "ask mean: "
    assert merged[1].pooling_mode == sources[0][1].pooling_mode
    assert torch.equal(merged[2].linear.weight, sources[0][2].linear.weight)
    assert [type(module) for module in merged] == [Transformer, Pooling, Dense, Normalize]
    means = {n: (p + sources[1][0].get_parameter(n)) / 2 for n, p in sources[0][0].named_parameters()}
    toy.close({n: p.detach() for n, p in merged[0].named_parameters()}, means, 1e-6)
    assert merged.encode(["the red cat"]).shape == (1, 16)
