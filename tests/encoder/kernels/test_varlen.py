"""No CPU runs the call itself: its meaning by a stand-in of the same signature, its shapes on fake CUDA tensors."""

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.backbone import prepare_layers
from lightning_embed.encoder.dropout import CpuDropout
from lightning_embed.encoder.kernels.base import Call, Needs
from lightning_embed.encoder.kernels.varlen import Varlen
from lightning_embed.encoder.options import Dtype
from lightning_embed.encoder.window import FULL
from lightning_embed.types import Tokens
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


@torch.library.custom_op("lightning_embed_tests::varlen", mutates_args=())
def one_operator(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, starts: torch.Tensor, longest: int, left: int, right: int
) -> torch.Tensor:
    return varlen_stand_in(q, k, v, starts, starts, longest, longest, window_size=(left, right), enable_gqa=True)


one_operator.register_fake(lambda q, *_: torch.empty_like(q))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile warns of its own imports
@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_it_is_inside_the_graph_of_a_compiled_layer(
    family: str, build, ragged: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One graph for a layer (`fullgraph`), and the same one for other lengths."""
    from torch._dynamo.utils import counters

    def stand_in(q, k, v, starts, _, longest, __, *, scale, window_size, enable_gqa):
        return one_operator(q, k, v, starts, longest, *window_size)

    plain_compile = torch.nn.Module.compile
    monkeypatch.setattr("lightning_embed.encoder.kernels.varlen.varlen_attn", stand_in)
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda self, **options: plain_compile(self, backend="eager", fullgraph=True, **options),
    )
    path = str(build(family))
    encoder = Encoder(EncoderOptions(path, dtype=Dtype.float32)).eval()
    compiled = Encoder(EncoderOptions(path, dtype=Dtype.float32)).eval()
    for module in compiled.modules():
        if type(module) is CpuDropout:  # the tests check its shapes, in a way that cannot be compiled
            module.__class__ = torch.nn.Dropout
    prepare_layers(EncoderOptions(path, compile=True), compiled.backbone)
    kernel = Varlen()
    compiled._kernel = lambda *_: kernel  # type: ignore[method-assign]
    counters.clear()
    with torch.no_grad():
        torch.testing.assert_close(compiled(ragged).final, encoder(ragged).final, atol=1e-5, rtol=0)
        graphs = counters["stats"]["unique_graphs"]
        for cut in range(3, 9):
            tokens = Tokens(ragged.ids, ragged.offsets[:cut])
            torch.testing.assert_close(compiled(tokens).final, encoder(tokens).final, atol=1e-5, rtol=0)
    assert 0 < counters["stats"]["unique_graphs"] <= graphs + 1
    assert not counters["graph_break"]
