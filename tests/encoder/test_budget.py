"""max_tokens=auto, and how chunks are cut."""

import pytest
import torch

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.budget import CPU_TOKENS, SavedBytes, _bytes_per_token, fitting_tokens, tokens_within
from lightning_embed.encoder.chunk import cut
from lightning_embed.errors import ConfigError


def test_auto_is_what_the_cache_of_a_cpu_holds(tiny_model) -> None:
    encoder = Encoder(EncoderOptions(str(tiny_model)))
    assert encoder.options.max_tokens == "auto"
    assert encoder.max_tokens == CPU_TOKENS
    assert Encoder(EncoderOptions(str(tiny_model), max_tokens=64)).max_tokens == 64
    with pytest.raises(ConfigError, match="expected auto or at least 1, got atuo"):
        EncoderOptions("x", max_tokens="atuo")


@pytest.mark.parametrize(("memory", "tokens"), [(0.0, 4096), (81919.0, 4096), (81920.0, 8192), (1e12, 131072)])
def test_memory_holds_a_power_of_two_of_tokens(memory: float, tokens: int) -> None:
    assert tokens_within(memory, 10.0) == tokens


def test_a_gpu_is_asked_for_its_memory_once(tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU here: its answer is made up, what a token needs is measured."""
    encoder, asked = Encoder(EncoderOptions(str(tiny_model))), []
    need = _bytes_per_token(encoder)
    assert need > 32 * 4 * 2 * 4  # at least what two layers keep of their inputs
    total = round(4 * 16384 * need) + 1000  # a quarter of it is taken
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (1, total))
    device = torch.device("cuda", 0)
    monkeypatch.setattr(Encoder, "device", property(lambda _: device))
    monkeypatch.setattr("lightning_embed.encoder.budget._bytes_per_token", lambda _: need)
    assert fitting_tokens(encoder) == 16384
    assert encoder.max_tokens == encoder.max_tokens == 16384
    assert len(asked) == 2


def test_a_token_needs_the_same_whatever_is_asked_first(tiny_model) -> None:
    encoder, state = Encoder(EncoderOptions(str(tiny_model))), torch.get_rng_state()
    need = _bytes_per_token(encoder)
    with torch.inference_mode():
        assert _bytes_per_token(encoder.eval()) == need
    assert not encoder.training
    assert torch.equal(torch.get_rng_state(), state)


def test_padded_chunks_end_where_padding_would_grow() -> None:
    lengths = [100] * 4 + [95] * 4 + [50] * 4
    assert [[lengths[text] for text in chunk] for chunk in cut(lengths, 1000, packed=False)] == [
        [100] * 4 + [95] * 4,
        [50] * 4,
    ]
    assert len(cut(lengths, 5000, packed=False)) == 1  # less than a quarter of the budget is not worth a chunk
    assert [sum(lengths[text] for text in chunk) for chunk in cut(lengths, 1000, packed=True)] == [980]


def test_weights_are_not_counted_wherever_they_are() -> None:
    """Those of a sharded model are in new memory in each forward pass."""
    layer, saved = torch.nn.Linear(8, 8), SavedBytes()
    states = torch.ones(4, 8, requires_grad=True)
    with saved.count():
        for _ in range(2):
            layer.weight.data = layer.weight.data.clone()
            layer(states).sum()
    assert saved.bytes == states.nbytes
