"""Models of a few tensors, on disk, and a merge of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightning_embed import registry
from lightning_embed.merge import MergeStrategy, Probe, Source
from lightning_embed.merge.engine import MergeSpec, OutputFormat, merge_models
from lightning_embed.merge.preparation import Preparation

SHAPES = {
    "embeddings.word.weight": (50, 8),
    "encoder.layer.0.dense.weight": (8, 24),
    "encoder.layer.0.dense.bias": (64,),
    "encoder.layer.1.norm.weight": (3,),
    "encoder.layer.1.scale": (1,),
    "encoder.layer.1.temperature": (),
}
ZERO = "encoder.layer.1.zero.bias"
BUFFER = "encoder.layer.1.steps"

Tensors = Mapping[str, Tensor]


def model(seed: int) -> dict[str, Tensor]:
    """A random model, with a zero tensor and an integer buffer."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return tensors | {ZERO: torch.zeros(8), BUFFER: torch.arange(5)}


def near(base: Tensors, seed: int, distance: float = 0.1) -> dict[str, Tensor]:
    """A fine-tune of `base`."""
    moved = {name: base[name] + distance * tensor for name, tensor in model(seed).items() if name in SHAPES}
    return {**base, **moved}


def family(count: int) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """A base and its fine-tunes, all deltas at different angles."""
    base = model(0)
    sources = [near(base, 1)]
    for seed in range(2, count + 1):
        mixed = near(base, seed)
        sources.append({name: (t + sources[-1][name]) / 2 if name in SHAPES else t for name, t in mixed.items()})
    return base, sources


@dataclass(frozen=True)
class InMemory:
    """A model as `prepare` sees it, without files."""

    tensors: Tensors
    name: str = "memory"
    size: int | None = 1

    @property
    def parameters(self) -> dict[str, torch.Size]:
        return {name: tensor.shape for name, tensor in self.tensors.items() if tensor.is_floating_point()}

    def tensor(self, name: str) -> Tensor:
        return self.tensors[name]


class Curves(list[tuple[int, dict[str, float]]]):
    """A reporter that remembers (step, metrics)."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.append((step, dict(metrics)))


def write(folder: Path, tensors: Tensors) -> Path:
    """A model directory."""
    folder.mkdir(parents=True)
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text('{"model_type": "toy", "torch_dtype": "float64"}')
    return folder


def read(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model directory."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def strategy(word: str, **options: Any) -> MergeStrategy:
    built: MergeStrategy = registry.build("merge", {"name": word, **options})
    return built


def coefficients(how: Any, vectors: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float]:
    """What a spherical strategy makes of a few vectors, each one with its weight."""
    stacked = torch.tensor(vectors, dtype=torch.float64)
    found: list[float] = how.coefficients(stacked @ stacked.T, [weight / sum(weights) for weight in weights]).tolist()
    return found


def merge(
    folder: Path,
    how: MergeStrategy,
    sources: Sequence[Tensors],
    base: Tensors | None = None,
    sizes: Sequence[int | None] | None = None,
    names: Sequence[str] | None = None,
    seed: int = 0,
    probe: Probe | None = None,
    **output: Any,
) -> dict[str, Tensor]:
    """Write the models below `folder`, merge them to `folder/merged`, and read the result."""
    names = names or [f"s{number}" for number in range(len(sources))]
    specs = [
        Source(write(folder / names[number], tensors), names[number], sizes[number] if sizes else None)
        for number, tensors in enumerate(sources)
    ]
    origin = write(folder / "base", base) if base else None
    merge_models(
        MergeSpec(how, specs, origin, seed),
        folder / "merged",
        output=OutputFormat(**output),
        preparation=Preparation(probe),
    )
    return read(folder / "merged" / "model")


def vector(tensors: Tensors) -> Tensor:
    """All floating tensors as one float64 vector."""
    return torch.cat(
        [tensors[name].double().flatten() for name in sorted(tensors) if tensors[name].is_floating_point()]
    )


def close(left: Tensors, right: Tensors, tolerance: float = 1e-5) -> None:
    """Assert that two models are equal."""
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name].float(), right[name].float(), rtol=tolerance, atol=tolerance, msg=name)
