"""flash_attn needs a GPU to be built: its meaning by a stand-in of the same signature."""

import sys
from types import SimpleNamespace

import pytest
import torch

from lightning_embed.encoder.kernels.base import Call, Needs
from lightning_embed.encoder.kernels.flash import Flash
from lightning_embed.encoder.window import FULL
from tests.encoder.kernels.reference import CAPPED, WINDOWS, Case, assert_same, slow


def stand_in(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False,
    window_size=(-1, -1), softcap=0.0,
):  # fmt: skip
    """`flash_attn_varlen_func`: causal beside the window; a cap of 0 is none."""
    assert dropout_p == 0
    assert max_seqlen_q == int(cu_seqlens_q.diff().max())
    left, right = window_size

    def sees(place: int, other: int) -> bool:
        inside = (left < 0 or place - other <= left) and (right < 0 or other - place <= right)
        return inside and (not causal or other <= place)

    return slow(q, k, v, cu_seqlens_k.diff().tolist(), sees, scaling=softmax_scale, softcap=softcap or None)


@pytest.mark.parametrize("case", [*WINDOWS, *CAPPED], ids=str)
def test_equals_the_slow_attention(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=stand_in))
    assert_same(case, Flash())


def test_it_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = Needs("cuda", torch.bfloat16, FULL, Call(64, 64, dropout=0.1, capped=True))
    monkeypatch.setattr("lightning_embed.encoder.kernels.varlen._is_new_enough", lambda: True)
    monkeypatch.setattr("lightning_embed.encoder.kernels.flash.is_installed", lambda: True)
    assert Flash().refusal(needs) is None
    monkeypatch.setattr("lightning_embed.encoder.kernels.flash.is_installed", lambda: False)
    assert "not installed" in str(Flash().refusal(needs))
