"""Quantized against loops, its straight-through gradient, the bits of sentence-transformers, its laws and refusals."""

from dataclasses import replace

import pytest
import torch
from sentence_transformers import quantize_embeddings
from torch.nn.functional import normalize

from lightning_embed.errors import ConfigError
from lightning_embed.loss.codiemb import CoDiEmb
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.matryoshka import Matryoshka
from lightning_embed.loss.quantized import Precision, Quantized, quantize
from lightning_embed.types import Embeddings, LossInput
from tests.reference import losses, wrappers

float32, int8, binary = Precision


def _with(batch: LossInput, final: torch.Tensor) -> LossInput:
    return replace(batch, embeddings=Embeddings(final, batch.embeddings.middle))


@pytest.mark.parametrize("weights", [[], [1.0, 0.5, 0.25]])
def test_reference(loss_input: LossInput, weights: list[float]) -> None:
    """The value, and the gradient that the formula defines: of the wrapped loss at the rounded embedding."""
    query, document = loss_input.query.tolist(), loss_input.positives[:, 0].tolist()

    def infonce(texts: list[torch.Tensor]) -> torch.Tensor:
        return losses.infonce([texts[i] for i in query], [[texts[i]] for i in document], [[]] * 5, 0.05)

    batch = replace(loss_input, positives=loss_input.positives[:, :1], negatives=torch.empty(5, 0).long(), score=None)
    output = Quantized(InfoNCE(0.05), list(Precision), weights)(batch)
    theirs = wrappers.quantized(infonce, batch.embeddings.final, list(map(str, Precision)), weights or [1.0, 1.0, 1.0])
    torch.testing.assert_close(output.value, theirs[0], rtol=1e-11, atol=1e-12)
    (gradient,) = torch.autograd.grad(output.value, batch.embeddings.final)
    torch.testing.assert_close(gradient, theirs[1], rtol=1e-9, atol=1e-12)
    assert output.logs.keys() == {"masked", "loss_float32", "loss_int8", "loss_binary"}


@pytest.mark.parametrize("precision", [int8, binary])
@pytest.mark.parametrize("loss", [InfoNCE(0.05), CoSENT(0.05)], ids=["infonce", "cosent"])
def test_the_gradient_is_that_of_the_wrapped_loss_at_the_rounded_embedding(
    loss_input: LossInput, loss: InfoNCE | CoSENT, precision: Precision
) -> None:
    """By finite differences there, as the value itself is flat between two roundings."""
    rounded = quantize(loss_input.embeddings.final, precision).detach().requires_grad_()

    def at(e: torch.Tensor) -> torch.Tensor:
        return loss(_with(loss_input, normalize(e, dim=1))).value

    assert torch.autograd.gradcheck(at, [rounded])
    (expected,) = torch.autograd.grad(at(rounded), rounded)
    value = Quantized(loss, [precision])(loss_input).value
    (ours,) = torch.autograd.grad(value, loss_input.embeddings.final)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_rounding(loss_input: LossInput) -> None:
    e = loss_input.embeddings.final
    steps = quantize(e, int8) / e.abs().amax(1, keepdim=True) * 127
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-12)
    assert steps.abs().amax(1).allclose(torch.tensor(127.0).double())
    assert ((quantize(e, int8) - e).abs() <= e.abs().amax(1, keepdim=True) / 254 + 1e-15).all()
    bits = quantize_embeddings(e.detach().numpy(), "ubinary")
    assert ((quantize(e, binary) > 0).numpy() == torch.from_numpy(bits).unsqueeze(1).bitwise_right_shift(
        torch.arange(7, -1, -1, dtype=torch.uint8)).bitwise_and(1).flatten(1).bool().numpy()).all()  # fmt: skip
    nothing = torch.zeros(2, 8, requires_grad=True)
    assert quantize(nothing, int8).equal(nothing)


def test_cosines_of_binary_are_hamming_distances(loss_input: LossInput) -> None:
    e = quantize(loss_input.embeddings.final.detach(), binary)
    hamming = (e[:, None].sign() != e.sign()).sum(-1)
    torch.testing.assert_close(e @ e.T, 1 - 2 * hamming.double() / 8)


def test_only_what_is_stored_is_rounded(loss_input: LossInput) -> None:
    """float32 alone is the wrapped loss; texts that round alike are alike; the middle layer is as it was."""
    assert Quantized(CoSENT(), [float32])(loss_input).value.equal(CoSENT()(loss_input).value)
    moved = loss_input.embeddings.final * torch.linspace(0.5, 2, 8)  # signs are kept
    assert Quantized(CoDiEmb(), [binary])(_with(loss_input, normalize(moved, dim=1))).value.equal(
        Quantized(CoDiEmb(), [binary])(loss_input).value
    )
    middle = replace(loss_input, embeddings=Embeddings(loss_input.embeddings.final, normalize(moved, dim=1)))
    assert not Quantized(CoDiEmb(), [binary])(middle).value.equal(Quantized(CoDiEmb(), [binary])(loss_input).value)


def test_inside_and_around_matryoshka(loss_input: LossInput) -> None:
    """Inside, each length is cut, normalised and rounded; around, the rounded embedding is cut."""
    inside = Matryoshka(Quantized(CoSENT(), [int8, binary]), [8, 4])(loss_input).value
    cut = [normalize(loss_input.embeddings.final[:, :n], dim=1) for n in (8, 4)]
    torch.testing.assert_close(
        inside, sum(Quantized(CoSENT(), [int8, binary])(_with(loss_input, e)).value for e in cut)
    )
    around = Quantized(Matryoshka(CoSENT(), [8, 4]), [int8])(loss_input).value
    rounded = normalize(quantize(loss_input.embeddings.final, int8), dim=1)
    torch.testing.assert_close(around, Matryoshka(CoSENT(), [8, 4])(_with(loss_input, rounded)).value)


def test_refusals() -> None:
    for precisions in ([], [int8, int8]):
        with pytest.raises(ConfigError, match="expected different precisions, at least one, got"):
            Quantized(precisions=precisions)
    with pytest.raises(ConfigError, match=r"weights=\[1.0\] are 1 numbers for 2 precisions"):
        Quantized(precisions=[int8, binary], weights=[1.0])
    with pytest.raises(ConfigError, match=r"weights must be at least 0, got \[-1.0\]"):
        Quantized(precisions=[int8], weights=[-1.0])
