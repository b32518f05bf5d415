"""SimCSE pairs in training: two encodings with independent dropout, in every step mode, packed and padded."""

from functools import partial
from pathlib import Path

import pytest
import torch

from lightning_embed import EmbeddingModule, registry
from lightning_embed.data.row_groups import Group
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Attention, Dtype
from lightning_embed.training.gather import local
from lightning_embed.types import Batch, Embeddings, Task
from tests.training.parity import MODES, batch

TEXTS = [
    f"the {colour} {noun} runs"
    for colour in ("red", "old big")
    for noun in ("cat", "dog", "bird", "house near the city")
]


@pytest.fixture(params=[Attention.auto, Attention.eager], ids=["packed", "padded"])
def encoder(request: pytest.FixtureRequest, tiny_model: Path) -> Encoder:
    options = EncoderOptions(str(tiny_model), attention=request.param, dtype=Dtype.float32, max_tokens=24)
    return Encoder(options).train()


def _pairs(encoder: Encoder) -> Batch:
    return batch(encoder, Task.retrieval, [Group(text, [text], []) for text in TEXTS])


def _gradient(encoder: Encoder, mode: str, seed: int, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and gradient of a step."""
    how, memory = MODES[mode]
    loss = registry.build("loss", {"name": "infonce", **options})
    module = EmbeddingModule(
        encoder, {Task.retrieval: loss}, partial(torch.optim.SGD, lr=0.0), step=how, step_memory=memory
    )
    output = module.run_backward(_pairs(encoder), lambda value, _: value.backward(), seed=seed)
    gradient = torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None]).clone()
    encoder.zero_grad()
    return output.value.detach(), gradient


def test_the_two_encodings_differ_and_are_a_function_of_the_seed(encoder: Encoder) -> None:
    made = _pairs(encoder)
    first, again, other = (encoder(made.tokens, seed=seed).final for seed in (1, 1, 2))
    cosines = (first[made.query] * first[made.positives[:, 0]]).sum(1)
    assert cosines.min() > 0.5
    assert cosines.max() < 0.9999
    assert first.equal(again)
    assert not torch.allclose(first, other, atol=1e-3)


def test_without_dropout_they_are_equal(encoder: Encoder) -> None:
    made = _pairs(encoder)
    final = encoder.eval()(made.tokens).final
    torch.testing.assert_close(final[made.query], final[made.positives[:, 0]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["cached", "partial"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_every_step_mode_has_the_same_gradient(encoder: Encoder, mode: str, symmetric: bool) -> None:
    """Whatever chunk either encoding is in: the second pass of a cached step draws the same masks."""
    (value, gradient), (expected, its) = (_gradient(encoder, m, 3, symmetric=symmetric) for m in (mode, "plain"))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, its, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("word", ["infonce", "multi_positive"])
def test_the_loss_pulls_the_two_encodings_together(encoder: Encoder, word: str) -> None:
    """Equal hashes leave no document out but the text itself: each row has its pair and seven negatives."""
    made = _pairs(encoder)
    final = encoder(made.tokens, seed=1).final

    output = registry.build("loss", {"name": word})(local(made, Embeddings(final)))
    logits = final[made.query] @ final[made.positives[:, 0]].T / 0.05
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(len(TEXTS)))
    torch.testing.assert_close(output.value, expected, rtol=1e-4, atol=1e-5)
