"""Random models on disk, for benchmarks: a base, and sources that differ from it as fine-tunes do.

bert: BERT-base, 110M parameters, one file of 438 MB in float32. qwen3: the shape of Qwen3-0.6B, 1.2 GB in bfloat16, in
three shards. 8b: the shape of Qwen3-8B in sparse files, which are all zero and take no place on the disk; 16 GB to read.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

NOISE = 0.01  # standard deviation of source minus base
LAYERS = 12
SHAPES = ("bert", "qwen3", "8b")
_QWEN3 = {
    "qwen3": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "8b": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32},
}


def make_models(folder: Path, count: int, layers: int = LAYERS, shape: str = "bert") -> tuple[Path, list[Path]]:
    """The base and the first `count` sources, made if they are not there."""
    folder = folder / (f"{layers}-layers" if shape == "bert" else shape)
    base, sources = folder / "base", [folder / f"source_{number}" for number in range(count)]
    for seed, path in enumerate((base, *sources)):
        if not (path / "config.json").exists():
            print(f"making {path}")
            _make(path, base, seed, layers, shape)
    return base, sources


def _make(path: Path, base: Path, seed: int, layers: int, shape: str) -> None:
    import torch
    from transformers import BertTokenizer

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(path)
    if shape == "8b":
        _sparse(path, _model(shape, layers, "meta"))
        return
    model = _model(shape, layers, "cpu")
    if path != base:
        common, own = (torch.Generator().manual_seed(number) for number in (0, seed))
        with torch.no_grad():
            for parameter in model.parameters():
                noise = sum(torch.randn(parameter.shape, generator=generator) for generator in (common, own))
                parameter += NOISE / 2**0.5 * noise
    model.save_pretrained(path, max_shard_size="500MB")


def _model(shape: str, layers: int, device: str) -> Any:
    """A random model; the same for the same arguments."""
    import torch
    from transformers import BertConfig, BertModel, Qwen3Config, Qwen3ForCausalLM

    with torch.device(device):
        if shape == "bert":
            return BertModel(BertConfig(num_hidden_layers=layers))
        sizes = {
            "vocab_size": 151_936,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "tie_word_embeddings": shape == "qwen3",
        }
        return Qwen3ForCausalLM(Qwen3Config(**_QWEN3[shape], **sizes)).to(torch.bfloat16)


def _sparse(path: Path, model: Any) -> None:
    """Write the headers of shards of one layer each, and leave their tensors to the file system."""
    shards: dict[str, dict[str, list[int]]] = {}
    for name, parameter in model.named_parameters():
        layer = name.split(".")[2] if name.startswith("model.layers.") else name.split(".")[-2]
        shards.setdefault(f"model-{layer}.safetensors", {})[name] = list(parameter.shape)
    for file, tensors in shards.items():
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, sizes in tensors.items():
            start, end = end, end + 2 * prod(sizes)
            header[name] = {"dtype": "BF16", "shape": sizes, "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (path / file).open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            stream.truncate(8 + len(text) + end)
    weight_map = {name: file for file, tensors in shards.items() for name in tensors}
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    model.config.save_pretrained(path)


def warm(models: Sequence[Path]) -> None:
    """Bring the weights into the page cache."""
    for file in (file for model in models for file in sorted(model.glob("*.safetensors"))):
        with file.open("rb") as stream:
            while stream.read(2**24):
                pass


def difference(one: Path, other: Path) -> tuple[float, float]:
    """Largest absolute difference of two models' tensors, and the share of elements that differ by more than 1e-6."""
    largest, num_differing, total = 0.0, 0, 0
    left, right = _opened(one), _opened(other)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        gap = (tensor().float() - right[name]().float()).abs()
        largest = max(largest, float(gap.max()))
        num_differing += int((gap > 1e-6).sum())
        total += gap.numel()
    return largest, num_differing / total


def _opened(folder: Path) -> dict[str, Callable[[], Any]]:
    """Name of each tensor -> a function that reads it."""
    from safetensors import safe_open

    files = [safe_open(file, "pt") for file in sorted(folder.glob("*.safetensors"))]
    return {name: partial(file.get_tensor, name) for file in files for name in file.keys()}  # noqa: SIM118
