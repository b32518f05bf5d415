"""Our dropout: a share p of the elements, unbiased, a pure function of torch's generator."""

import pytest
import torch

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.dropout import CpuDropout, Dropped, kept_scale


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_p_is_dropped_element_by_element(p: float) -> None:
    torch.manual_seed(0)
    drawn = Dropped(p)(2**20).view(-1, 4, 256).double()
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    deviation = (p * (1 - p)) ** 0.5
    assert abs(drawn.mean() - p) < 5 * deviation / 2**10
    # each of the four elements that share 64 bits, and neighbours of all distances up to 8
    assert (drawn.view(-1, 4).mean(0) - p).abs().max() < 5 * deviation / 2**9
    flat = (drawn.flatten() - p) / deviation
    for distance in range(1, 9):
        assert abs((flat[distance:] * flat[:-distance]).mean()) < 5 / 2**10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_kept_elements_are_scaled_and_carry_the_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    layer, values = CpuDropout(0.25), torch.ones(1000, 40, dtype=dtype, requires_grad=True)
    output = layer(values)
    output.sum().backward()
    assert output.dtype is dtype
    assert output.unique().tolist() == [0, pytest.approx(kept_scale(0.25), rel=0.004)]
    assert torch.equal(values.grad, output.detach())
    assert abs(output.double().mean() - 1) < 0.02


def test_the_generator_of_torch_decides() -> None:
    layer, values = CpuDropout(0.5), torch.ones(999)
    torch.manual_seed(2)
    first, second = layer(values), layer(values)
    torch.manual_seed(2)
    assert torch.equal(layer(values), first)
    assert not torch.equal(second, first)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_limits_and_evaluation_are_those_of_torch(p: float) -> None:
    values = torch.randn(5, 3)
    torch.testing.assert_close(CpuDropout(p)(values), values * (1 - p))
    assert torch.equal(CpuDropout(0.5).eval()(values), values)


def test_every_dropout_of_a_backbone_is_ours(tiny_model) -> None:
    encoder = Encoder(EncoderOptions(str(tiny_model)))
    layers = [module for module in encoder.modules() if isinstance(module, torch.nn.Dropout)]
    assert layers
    assert {type(layer) for layer in layers} == {CpuDropout}
