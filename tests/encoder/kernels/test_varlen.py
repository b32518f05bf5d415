"""No CPU runs the call itself: its meaning by a stand-in of the same signature, its shapes on fake CUDA tensors."""

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_embed.encoder.kernels.base import Call, Needs
from lightning_embed.encoder.kernels.varlen import Varlen
from lightning_embed.encoder.window import FULL
from tests.encoder.kernels.reference import RULES, WINDOWS, Case, assert_same, layout_of, pattern_of, varlen_stand_in

NEEDS = Needs("cuda", torch.bfloat16, FULL, Call(64, 64, dropout=0.1))


@pytest.fixture(autouse=True)
def new_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_embed.encoder.kernels.varlen._is_new_enough", lambda: True)


@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_equals_the_slow_attention(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_embed.encoder.kernels.varlen.varlen_attn", varlen_stand_in)
    assert_same(case, Varlen())


def test_it_is_one_operator_on_fake_cuda_tensors_whatever_the_lengths() -> None:
    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(str(func))
            return func(*args, **(kwargs or {}))

    for sizes in ([5, 5, 5], list(range(40, 0, -1))):
        names: list[str] = []
        pattern = pattern_of(RULES["sliding"], layout_of(sizes, Varlen()))
        with FakeTensorMode(), torch.no_grad():
            layout = layout_of(sizes, Varlen(), "cuda")
            rows = [torch.empty(sum(sizes), heads, 64, dtype=torch.bfloat16, device="cuda") for heads in (8, 2, 2)]
            with Names():
                output = Varlen()(*rows, pattern, layout)
        assert (output.shape, output.dtype, output.device.type) == (rows[0].shape, torch.bfloat16, "cuda")
        assert names == ["torch_attn._varlen_attn.default"]


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        (NEEDS, None),
        (replace(NEEDS, device="cpu"), "capability 8.0"),
        (replace(NEEDS, dtype=torch.float32), "float32, and the kernel computes in 16 bits"),
        (replace(NEEDS, window=None), "no window"),
        (replace(NEEDS, call=Call(12, 12)), "heads of 12"),
        (replace(NEEDS, call=Call(64, 32)), "heads of 64 and 32"),
        (replace(NEEDS, call=Call(64, 64, capped=True)), "capped"),
        (replace(NEEDS, call=Call(64, 64, sinks=True)), "sinks"),
    ],
)
def test_what_it_lacks(needs: Needs, reason: str | None) -> None:
    found = Varlen().refusal(needs)
    assert found is None if reason is None else reason in str(found)
