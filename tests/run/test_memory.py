"""Memory of a training: by the dtype of the weights, and by what trains."""

from functools import partial
from pathlib import Path

import pytest
import torch

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Weights
from lightning_embed.run.memory import gibibytes, held

ADAM = partial(torch.optim.AdamW, lr=1e-3)


def test_all_weights_train(tiny_model: Path) -> None:
    encoder = Encoder(EncoderOptions(str(tiny_model)))
    sizes = {p: p.nbytes for p in encoder.parameters()}
    memory = held(encoder, ADAM)
    trained = sum(size for p, size in sizes.items() if p.requires_grad)
    assert memory.weights == sum(sizes.values()) + sum(b.nbytes for b in encoder.buffers())
    assert (memory.gradients, memory.states) == (trained, 2 * trained)
    assert trained < sum(sizes.values()), "the pooler is frozen"


def test_adapters_train(tiny_model: Path) -> None:
    encoders = {
        weights: Encoder(EncoderOptions(str(tiny_model), lora_rank=2, weights=weights))
        for weights in (Weights.float32, Weights.bfloat16)
    }
    whole, half = (held(encoder, ADAM) for encoder in encoders.values())
    adapters = sum(p.nbytes for p in encoders[Weights.float32].parameters() if p.requires_grad)
    assert whole.gradients == half.gradients == adapters
    assert whole.states == half.states == 2 * adapters
    assert half.weights - adapters < 0.6 * (whole.weights - adapters)


@pytest.mark.parametrize(("momentum", "factor"), [(0.0, 0), (0.9, 1)])
def test_states_are_counted_by_the_optimiser(tiny_model: Path, momentum: float, factor: int) -> None:
    encoder = Encoder(EncoderOptions(str(tiny_model)))
    memory = held(encoder, partial(torch.optim.SGD, lr=0.1, momentum=momentum))
    assert memory.states == factor * memory.gradients


def test_sizes_for_people() -> None:
    assert [gibibytes(size) for size in (3.2 * 2**30, 0.5 * 2**30, 4 * 2**20, 1.25 * 2**20)] == [
        "3.2 GiB", "0.5 GiB", "4 MiB", "1.25 MiB"
    ]  # fmt: skip
