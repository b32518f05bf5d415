"""FlexAttention runs on a CPU, step by step; torch refuses its gradients there, which this test asks for all the same."""

import pytest
import torch

from lightning_embed.encoder.kernels.base import Call, Needs
from lightning_embed.encoder.kernels.flex import Flex, _blocks
from lightning_embed.encoder.window import FULL
from tests.encoder.kernels.reference import CAPPED, OTHERS, RULES, WINDOWS, Case, layout_of, pattern_of


@pytest.mark.parametrize("case", [*WINDOWS, *CAPPED, *OTHERS], ids=str)
@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_equals_the_slow_attention(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)
    for found, expected in zip(case.found(Flex()), case.expected(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sizes", [[300, 200, 200, 100, 5, 1], [128, 128], [1], [640], [127, 1, 1]])
def test_blocks_hold_every_pair_of_a_text_and_few_others(sizes: list[int]) -> None:
    layout = layout_of(sizes, Flex())
    blocks = _blocks(pattern_of(RULES["full"], layout), layout)
    dense = blocks.to_dense()[0, 0].bool()
    total = sum(sizes)
    expected = torch.zeros_like(dense)
    for query in range(0, total, 128):
        for key in range(0, total, 128):
            pairs = layout.text[query : query + 128, None] == layout.text[None, key : key + 128]
            expected[query // 128, key // 128] = pairs.any()
    assert torch.equal(dense, expected)


def test_what_it_lacks() -> None:
    assert "CUDA" in str(Flex().refusal(Needs("cpu", torch.float32, FULL, Call(64, 64))))
