from dataclasses import dataclass
from pathlib import Path

import pytest
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


RULES = ["embeddings.word.weight=0", "decoder.weight=0", "decoder.weight=0.5", "embeddings.word.weight=0.25", "(dec|emb).*weight=0.3"]  # fmt: skip


@pytest.mark.parametrize("word", ["soup", "ties", "slerp"])
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_for_one_name_keeps_a_matrix_together(rule: str, word: str, tmp_path: Path) -> None:
    base, sources = toy.family(2)
    stored_twice = [{**model, OTHER: model[ONE].clone()} for model in (*sources, base)]
    how = toy.strategy(word, layers=[rule])
    merged = toy.merge(tmp_path / "both", how, stored_twice[:2], stored_twice[2])
    assert torch.equal(merged[OTHER], merged[ONE])
    if OTHER not in rule and word != "slerp":  # whose angle is that of all tensors
        toy.close({ONE: merged[ONE]}, {ONE: toy.merge(tmp_path / "one", how, sources, base)[ONE]}, 0)


def test_copies_of_a_layer_have_rules_of_their_own(tmp_path: Path) -> None:
    """Equal matrices of numbered layers are two matrices: a model deepened by copies."""
    base, sources = toy.family(2)
    one, copy = "encoder.layer.0.dense.weight", "encoder.layer.7.dense.weight"
    models = [{**model, copy: model[one].clone()} for model in (*sources, base)]
    merged = toy.merge(tmp_path, toy.strategy("soup", layers=[f"{copy}=0"]), models[:2], models[2])
    assert torch.equal(merged[copy], base[one])
    assert not torch.equal(merged[one], base[one])
