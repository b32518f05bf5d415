from dataclasses import replace

import pytest
import torch

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.kernels.base import Call, Needs
from lightning_embed.encoder.kernels.choice import KERNELS, choose
from lightning_embed.encoder.options import Attention, KernelWord
from lightning_embed.encoder.window import CAUSAL, FULL, Window
from lightning_embed.errors import ConfigError

GPU = Needs("cuda", torch.bfloat16, FULL, Call(64, 64))
WITH_DROPOUT = replace(GPU, call=Call(64, 64, dropout=0.1))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    """A machine with a GPU, Triton, and flash_attn if asked for."""

    def build(flash: bool) -> None:
        choose.cache_clear()
        monkeypatch.setattr("lightning_embed.encoder.kernels.varlen._is_new_enough", lambda: True)
        monkeypatch.setattr("lightning_embed.encoder.kernels.flash.is_installed", lambda: flash)
        monkeypatch.setattr("lightning_embed.encoder.kernels.flex.find_spec", lambda _: True)

    yield build
    choose.cache_clear()


@pytest.mark.parametrize(
    ("needs", "without_flash", "with_flash"),
    [
        (GPU, "varlen", "varlen"),
        (WITH_DROPOUT, "varlen", "flash"),
        (replace(GPU, window=Window(64, 64)), "varlen", "varlen"),
        (replace(GPU, window=CAUSAL), "varlen", "varlen"),
        (replace(GPU, window=None), "flex", "flex"),
        (replace(GPU, call=Call(256, 256, capped=True)), "flex", "flash"),
        (replace(GPU, call=Call(64, 64, sinks=True)), "batched", "batched"),
        (replace(GPU, call=Call(8, 12)), "batched", "batched"),
        (replace(GPU, dtype=torch.float32), "batched", "batched"),
        (replace(GPU, device="mps"), "batched", "batched"),
        (replace(GPU, device="cpu"), "groups", "groups"),
    ],
)
def test_auto(needs: Needs, without_flash: str, with_flash: str, gpu) -> None:
    for flash, expected in ((False, without_flash), (True, with_flash)):
        gpu(flash)
        assert choose(KernelWord.auto, needs, "m").word == expected


def test_every_word_is_a_kernel() -> None:
    assert set(KERNELS) == set(KernelWord) - {"auto"}


def test_lost_dropout_is_said_once(gpu, caplog: pytest.LogCaptureFixture) -> None:
    gpu(False)
    with caplog.at_level("INFO"):
        for _ in range(2):
            choose(KernelWord.auto, WITH_DROPOUT, "m")
    chosen, lost = [record.getMessage() for record in caplog.records]
    assert chosen == "m: attention by the kernel varlen on cuda in torch.bfloat16."
    assert lost.startswith("m: the kernel varlen has no dropout of attention (0.1 in this model)")


def test_a_kernel_that_cannot_is_refused_when_the_model_is_opened(tiny_model, build) -> None:
    with pytest.raises(
        ConfigError, match=r"encoder.kernel=varlen: .* needs, which is attention on a device other than"
    ):
        Encoder(EncoderOptions(str(tiny_model), kernel=KernelWord.varlen))
    with pytest.raises(ConfigError, match=r"encoder.kernel=batched: expected a model that runs packed"):
        Encoder(EncoderOptions(str(build("mpnet")), kernel=KernelWord.batched))
    with pytest.raises(ConfigError, match=r"encoder.kernel=batched: expected encoder.attention=auto or packed"):
        EncoderOptions("m", kernel=KernelWord.batched, attention=Attention.sdpa)


@pytest.mark.parametrize("family", ["bert", "qwen3", "gemma2", "modernbert"])
def test_a_whole_model_by_another_kernel(family: str, build, ragged) -> None:
    """The windows that its masks have reach the kernel."""
    path = str(build(family))
    groups, batched = (
        Encoder(EncoderOptions(path, kernel=word)).eval() for word in (KernelWord.auto, KernelWord.batched)
    )
    torch.testing.assert_close(batched(ragged).final, groups(ragged).final, atol=1e-5, rtol=0)


def test_dropout_of_attention(build, ragged) -> None:
    """A model without other dropout gives the same twice only without that of attention."""
    path = str(build("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.3))
    own, off = (Encoder(EncoderOptions(path, attention_dropout=share)) for share in (None, 0.0))
    assert not torch.equal(own(ragged, seed=1).final, own(ragged, seed=2).final)
    assert torch.equal(off(ragged, seed=1).final, off(ragged, seed=2).final)
    assert off.backbone.config.attention_probs_dropout_prob == 0.3, "saved as it was"
    with pytest.raises(ConfigError, match=r"encoder.attention_dropout: expected a share in \[0, 1\)"):
        EncoderOptions(path, attention_dropout=1.0)
    with pytest.raises(ConfigError, match=r"encoder.attention_dropout: .* \(t5\) has no dropout of its own"):
        Encoder(EncoderOptions(str(build("t5")), attention_dropout=0.0))
