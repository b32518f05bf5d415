"""Model directories made to deceive: each merges in its own folder, or is refused in a sentence."""

import json
import os
import random
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from lightning_embed.errors import LightningEmbedError
from lightning_embed.merge import Source
from lightning_embed.merge.engine import MergeSpec, merge_models
from tests.merge import toy

SECRET = b"-----BEGIN OPENSSH PRIVATE KEY-----"
NAMES = ["config.json", "vocab.txt", "tokenizer.json", "modules.json", "model.safetensors.index.json",
         "model.safetensors", "config_sentence_transformers.json", "LICENSE", "1_Pooling", "2_Dense", "plugins.py",
         "adapter_config.json", "adapter_model.safetensors", "model-1.safetensors", "0_Transformer"]  # fmt: skip
PATHS = ["..", "../..", "../secret", "../outside", "/etc/passwd", "/", "", ".", "1_Pooling", "1_Pooling/..", "a\0b",
         "x" * 300, "x/" * 3000, "\ud800", "~/.ssh", "../target/model", "1_Pooling/../../secret", "2_Dense", "é",
         "model.safetensors", "model-1.safetensors", "../outside/model.safetensors", "//etc", "nul", "a\nb", "-r"]  # fmt: skip


def _header(entries: str, length: int | None = None, data: int = 64) -> bytes:
    text = entries.encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * data


def _tensor(dtype: str, shape: list[Any], start: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def _weights(draw: random.Random) -> bytes:
    kind = draw.randrange(9)
    if kind < 3:
        names = draw.sample(["a.weight", "b.weight", "b.bias", "_orig_mod.a.weight", "../x", "a", "__metadata__x"], 2)
        shape = draw.choice([(2,), (2, 2), (0,), (), (0, 4)])
        dtype = draw.choice(
            [
                torch.float32,
                torch.float32,
                torch.float16,
                torch.int8,
                torch.int64,
                torch.bool,
                torch.complex64,
                torch.float8_e4m3fn,
            ]
        )
        return save({name: torch.ones(shape).to(dtype) for name in names})
    if kind == 3:
        return _header("{}", draw.choice([0, 1, 2**20, 2**40, 2**63, 2**64 - 1]))
    if kind == 4:
        twice = json.dumps(_tensor("F32", [2], 0, 8))
        return _header(f'{{"a":{twice},"a":{draw.choice([twice, json.dumps(_tensor("F16", [4], 0, 8))])}}}', data=8)
    if kind == 5:
        entries = {"a": _tensor("F32", [2], 0, 8), "b": _tensor("F32", [2], draw.choice([0, 4, 8, -8, 2**62]), 16)}
        return _header(json.dumps(entries), data=16)
    if kind == 6:
        shape = draw.choice([[2**40, 2**40], [-1], ["2"], [2.5], [[2]], None, [2**63]])
        return _header(json.dumps({"a": _tensor(draw.choice(["F32", "F99", "F4", "F8_E8M0"]), shape, 0, 64)}))
    if kind == 7:
        return _header(draw.choice(["[]", "{" * 3000, '{"a":' * 2000, "null", '{"\\ud83d":1}', "\x00", '{"a":{}}']))
    return draw.randbytes(draw.choice([0, 3, 8, 200]))


def _content(name: str, draw: random.Random) -> bytes:
    if name.endswith(".safetensors"):
        return _weights(draw)
    path = draw.choice(PATHS)
    contents: list[Any] = [{}, [], None, 3, "x", {"model_type": "bert"}, {"quantization_config": path}, [{"path": path}],
                           [{"path": path, "type": "x.Pooling", "idx": 0, "name": "0"}], [{"path": 3}], {"weight_map": {"a": path}},
                           {"weight_map": {"a": "model-1.safetensors", "b": path}}, {"weight_map": []},
                           {"transformers_weights": path}, {"peft_type": "LORA", "base_model_name_or_path": path, "lora_alpha": 1},
                           {"peft_type": "LOHA", "base_model_name_or_path": "../outside"}]  # fmt: skip
    text = json.dumps(draw.choice(contents)).encode()
    return draw.choice([text, text, text, text[:-1], b"\xff\xfe", b"[" * 9000, b""])


def _place(folder: Path, name: str, draw: random.Random) -> None:
    path, kind = folder / name, draw.randrange(12)
    if os.path.lexists(path):
        return
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to(
            draw.choice(
                [
                    "../outside/id_rsa",
                    "../outside",
                    "/dev/zero",
                    "..",
                    ".",
                    name,
                    "vocab.txt",
                    "/etc",
                    "gone",
                    "../../nowhere",
                ]
            )
        )
    elif kind == 2 or (name[0].isdigit() and kind < 10):
        path.mkdir()
        _place(path, draw.choice(NAMES), draw)
    else:
        path.write_bytes(_content(name, draw))


def _tree(folder: Path, draw: random.Random) -> None:
    """A model with a few hostile parts, or only those."""
    folder.mkdir()
    for name in draw.sample(NAMES, draw.randrange(5)):
        _place(folder, name, draw)
    if draw.random() < 0.7 and not os.path.lexists(folder / "model.safetensors"):
        tensors = {"a.weight": torch.ones(2, 2), "b.weight": torch.ones(3)}
        (folder / "model.safetensors").write_bytes(save(tensors))
    for _ in range(draw.randrange(3)):
        name = draw.choice(
            ["loop", "vocab.txt", "é.txt", "new\nline", "special_tokens_map.json", os.fsdecode(b"\xe9.txt")]
        )
        _place(folder, name, draw)


def _seen(folder: Path) -> dict[str, tuple[int, int]]:
    """All paths below a folder, links not followed, with their size and time of change."""
    found = {}
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(parent, name)
            status = os.lstat(path)
            found[os.path.relpath(path, folder)] = (status.st_size, status.st_mtime_ns)
    return found


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _attempt(root: Path, draw: random.Random) -> str:
    (root / "outside").mkdir(parents=True)
    (root / "outside/id_rsa").write_bytes(SECRET)
    (root / "outside/model.safetensors").write_bytes(save({"a.weight": torch.full((2, 2), 7.0)}))
    _tree(root / "one", draw)
    sources = [Source(root / "one", "one")]
    if draw.random() < 0.4:
        _tree(root / "two", draw)
        sources.append(Source(root / "two", "two"))
    before, refusals = _seen(root), []
    with _within(5):
        try:
            merge_models(MergeSpec(toy.strategy("soup"), sources), root / "target/soup")
        except LightningEmbedError as error:
            refusals.append(str(error))
    now = _seen(root)
    if refusals:
        assert len(refusals[0]) < 2000
        assert {**now, "target": None} == {**before, "target": None}, "a refused merge leaves no file"
        return "refused"
    assert {path: now[path] for path in before} == before
    assert all(path.split("/")[0] == "target" for path in now.keys() - before.keys())
    for path in (root / "target").rglob("*"):
        assert not path.is_symlink()
        assert path.is_dir() or SECRET not in path.read_bytes()
    return "merged"


@pytest.mark.slow
def test_500_random_trees(tmp_path: Path) -> None:
    outcomes = []
    for seed in range(500):
        try:
            outcomes.append(_attempt(tmp_path / str(seed), random.Random(seed)))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    assert outcomes.count("merged") > 50
    assert outcomes.count("refused") > 50
