import pytest
import torch

from lightning_embed.encoder.kernels.batched import Batched
from tests.encoder.kernels.reference import (
    CAPPED,
    OTHERS,
    RULES,
    SINKS,
    SIZES,
    WINDOWS,
    Case,
    assert_same,
    layout_of,
    pattern_of,
)


@pytest.mark.parametrize("case", [*WINDOWS, *CAPPED, *SINKS, *OTHERS], ids=str)
def test_equals_the_slow_attention(case: Case) -> None:
    """Gradients too: a query of padding that sees no key would make all of them NaN."""
    if case.softcap is None and not case.with_sinks:
        assert_same(case, Batched())
    else:  # its softmax is in float32
        for found, expected in zip(case.found(Batched()), case.expected(), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_index_and_mask_are_made_once_for_all_layers() -> None:
    layout = layout_of(SIZES, Batched())
    first, other = (pattern_of(RULES[rule], layout) for rule in ("local", "pieces"))
    rows = Case("local").rows()
    for pattern in (first, other, first, other):
        Batched()(*rows, pattern, layout)
    assert sum(isinstance(value, torch.Tensor) for value in layout._shared.values()) == 3


def test_dropout_keeps_the_expectation() -> None:
    layout = layout_of(SIZES, Batched())
    pattern = pattern_of(RULES["full"], layout)
    rows = [row.detach() for row in Case("full").rows()]
    torch.manual_seed(0)
    dropped = torch.stack([Batched()(*rows, pattern, layout, dropout=0.5) for _ in range(300)])
    plain = Batched()(*rows, pattern, layout)
    assert not torch.equal(dropped[0], dropped[1])
    assert abs((dropped.mean(0) * plain).sum() / plain.square().sum() - 1) < 0.05
