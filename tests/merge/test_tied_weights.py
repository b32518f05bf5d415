from dataclasses import dataclass
from pathlib import Path

import torch

from lightning_embed.merge import MergeStrategy
from tests.merge import toy

OTHER, ONE = "decoder.weight", "embeddings.word.weight"


@dataclass(frozen=True)
class Noise(MergeStrategy):
    """Random numbers."""

    def merge(self, name, tensors, base, plan, generator):
        return torch.randn(tensors[0].shape, generator=generator)


def test_a_matrix_with_two_names_is_drawn_once(tmp_path: Path) -> None:
    sources = [dict(source) for source in toy.family(2)[1]]
    for source in sources:
        source[OTHER] = source[ONE].clone()
    merged = toy.merge(tmp_path / "tied", Noise(), sources)
    assert torch.equal(merged[OTHER], merged[ONE])
    sources[1][OTHER] = sources[1][OTHER] + 1
    apart = toy.merge(tmp_path / "apart", Noise(), sources)
    assert not torch.equal(apart[OTHER], apart[ONE])


def test_equal_vectors_are_two(tmp_path: Path) -> None:
    sources = [{"a.bias": torch.ones(8), "b.bias": torch.ones(8)} for _ in range(2)]
    merged = toy.merge(tmp_path, Noise(), sources)
    assert not torch.equal(merged["a.bias"], merged["b.bias"])
