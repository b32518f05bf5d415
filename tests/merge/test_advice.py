"""What the doctor says, on vectors that are made for one sentence each."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lightning_embed.merge.blocks.stream import Block
from lightning_embed.merge.diagnosis.advice import Seen, expect
from lightning_embed.merge.diagnosis.geometry import measure, summarise

NAMES = ["a", "b", "c", "d"]
E = torch.eye(100)


def said(deltas: Sequence[Tensor], base_norm: float = 100.0, **layers: Sequence[Tensor]) -> list[str]:
    """The sentences on sources with these deltas in one layer, and others in further layers."""
    base = torch.full((100,), base_norm / 10)
    groups = {"layer.0": deltas, **{name.replace("_", "."): values for name, values in layers.items()}}
    sums = {
        name: measure(Block(name, 0, base + torch.stack(list(values)), base), base) for name, values in groups.items()
    }
    return expect(Seen(summarise(sums), NAMES[: len(deltas)]))


def test_orthogonal_sources() -> None:
    (direction, signs) = said([E[0], 1.1 * E[1] + 0.05 * E[0]])
    assert "nearly orthogonal (cosine 0.05)" in direction
    assert "keeps 1/2 of each (72% of their mean length)" in direction
    assert "task_arithmetic with a scale between 0.50 and 1, or self_positioning" in direction
    assert (
        "Only 0% of the elements that moved have conflicting signs (chance: 50%): the sources moved different" in signs
    )


def test_the_same_few_elements() -> None:
    """Where both moved, signs conflict as often as chance wants: what neither moved says nothing."""
    four = [E[0] + E[1] + E[2] + E[3], E[0] - E[1] + E[2] - E[3]]
    (sentence,) = said(four)
    assert "nearly orthogonal" in sentence


def test_the_range_of_cosines_is_told() -> None:
    direction = said([E[0], E[1] + 0.05 * E[0], E[2] + 0.1 * E[0]])[0]
    assert "(cosines 0.00 to 0.10)" in direction
    assert "keeps 1/3 of each" in direction


def test_parallel_sources_lose_nothing() -> None:
    (sentence,) = said([E[0] + 0.1 * E[1], E[0] - 0.1 * E[1]])
    assert "nearly parallel (cosine 0.98)" in sentence
    assert "An average loses nothing (it keeps 100% of their mean length)" in sentence


def test_between_parallel_and_orthogonal() -> None:
    (sentence,) = said([E[0] + E[1], E[0] + E[2]])
    assert "share a part of their direction (cosine 0.50)" in sentence
    assert "87% of their mean length" in sentence


def test_a_long_source_dominates() -> None:
    sentences = said([E[0], 3 * E[1]])
    assert "'b' is 3.0 times as long as 'a' and dominates an average." in sentences[1]
    assert "or multislerp with of=delta" in sentences[1]
    assert not any("dominates" in sentence for sentence in said([E[0], 1.9 * E[1]]))


def test_opposed_sources() -> None:
    sentences = said([E[0], E[1], E[1] * -0.5 + E[2]])
    assert sentences[0].startswith("'b' and 'c' point against each other (cosine -0.45)")
    assert not any("orthogonal" in sentence for sentence in sentences)


def test_a_source_that_is_the_base() -> None:
    still = said([E[0], 0 * E[0], E[1]])[0]
    assert still.startswith("'b' is the base, or hardly differs from it")
    assert "keeps 1/2 of each" in said([E[0], 0 * E[0], E[1]])[1]
    assert said([0 * E[0], 0 * E[0]]) == ["No source differs from the base: every strategy gives the base back."]


def test_sources_of_another_base() -> None:
    (sentence,) = said([120 * E[0], 1.0 * E[1]])
    assert sentence.startswith("'a' lies 1.20 times the base's own length away from it")
    assert "expect a broken model" in sentence
    (sentence,) = said([100 * E[0], 100 * E[0] + 10 * E[1]])
    assert "'a' and 'b' lie 1.00 times" in sentence
    assert "they started from another model. Give that one as base=" in sentence


def test_without_a_base_the_weights_are_compared() -> None:
    def alone(one: Tensor, other: Tensor) -> str:
        found = summarise({"all": measure(Block("a", 0, torch.stack([one, other]), None))})
        (sentence,) = expect(Seen(found, NAMES[:2]))
        return sentence

    assert "Expect a broken model" in alone(E[0], E[1])
    assert "as fine-tunes of one model do" in alone(E[0], E[0] + 0.01 * E[1])


def test_copies_count_twice() -> None:
    sentences = said([E[0], E[0] + 0.1 * E[1], E[2]])
    expected = "3 task vectors make up 1.9 independent directions: 'a' and 'b' are nearly one (cosine 1.00)"
    assert expected in sentences[1]
    still = 0.001 * E[3]  # counts neither as a vector nor as a direction
    assert expected in said([E[0], E[0] + 0.1 * E[1], E[2], still])[2]


def test_layers_that_stand_out() -> None:
    sentences = said([E[0], E[1]], layer_1=[E[0], E[1]], layer_2=[E[0], 5 * E[1]])
    assert any("layer.2 moved 5 times as far as the median layer in 'b'" in sentence for sentence in sentences)
    sentences = said([10 * E[0], 10 * E[1]], layer_1=[E[0], -1 * E[0]])
    assert sentences[-1] == "In layer.1 alone 'a' and 'b' point against each other (cosine -1.00)."


@pytest.mark.parametrize(("cosine", "kept"), [(1.0, 1.0), (0.0, 0.5**0.5), (-1.0, 0.0)])
def test_what_an_average_keeps(cosine: float, kept: float) -> None:
    other = cosine * E[0] + (1 - cosine**2) ** 0.5 * E[1]
    block = Block("a", 0, torch.stack([E[0], other]), torch.zeros(100))
    assert Seen(summarise({"a": measure(block)}), "ab").kept_by_average == pytest.approx(kept, abs=1e-6)


def test_one_source() -> None:
    assert said([E[0]]) == []
