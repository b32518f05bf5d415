"""Random BERT models on disk, for benchmarks: a base, and sources that differ from it as fine-tunes do."""

from collections.abc import Sequence
from pathlib import Path

NOISE = 0.01  # standard deviation of source minus base
LAYERS = 12


def make_models(folder: Path, count: int, layers: int = LAYERS) -> tuple[Path, list[Path]]:
    """The base and the first `count` sources, made if they are not there."""
    folder = folder / f"{layers}-layers"
    base, sources = folder / "base", [folder / f"source_{number}" for number in range(count)]
    for seed, path in enumerate((base, *sources)):
        if not (path / "model.safetensors").exists():
            print(f"making {path}")
            _make(path, base, seed, layers)
    return base, sources


def _make(path: Path, base: Path, seed: int, layers: int) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    model = BertModel(BertConfig(num_hidden_layers=layers))
    if path != base:
        common, own = (torch.Generator().manual_seed(number) for number in (0, seed))
        for name, tensor in load_file(base / "model.safetensors").items():
            noise = sum(torch.randn(tensor.shape, generator=generator) for generator in (common, own))
            model.state_dict()[name].copy_(tensor + NOISE / 2**0.5 * noise)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(path)
    model.save_pretrained(path)


def warm(models: Sequence[Path]) -> None:
    """Bring the weights into the page cache."""
    for model in models:
        with (model / "model.safetensors").open("rb") as file:
            while file.read(2**24):
                pass


def difference(one: Path, other: Path) -> tuple[float, float]:
    """Largest absolute difference of two files' tensors, and the share of elements that differ by more than 1e-6."""
    from safetensors import safe_open

    largest, num_differing, total = 0.0, 0, 0
    with safe_open(one, "pt") as left, safe_open(other, "pt") as right:
        assert set(left.keys()) == set(right.keys())
        for name in left.keys():  # noqa: SIM118
            gap = (left.get_tensor(name) - right.get_tensor(name)).abs()
            largest = max(largest, float(gap.max()))
            num_differing += int((gap > 1e-6).sum())
            total += gap.numel()
    return largest, num_differing / total
