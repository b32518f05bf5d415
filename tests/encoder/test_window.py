import pytest
import torch
from transformers import masking_utils

from lightning_embed.encoder.window import CAUSAL, FULL, Window, window_of


@pytest.mark.parametrize(
    ("rule", "length", "expected"),
    [
        (masking_utils.bidirectional_mask_function, 50, FULL),
        (masking_utils.causal_mask_function, 50, CAUSAL),
        (masking_utils.sliding_window_causal_mask_function(8), 50, Window(7, 0)),
        (masking_utils.sliding_window_causal_mask_function(8), 6, CAUSAL),
        (masking_utils.sliding_window_bidirectional_mask_function(8), 50, Window(8, 8)),
        (masking_utils.sliding_window_bidirectional_mask_function(8), 2000, Window(8, 8)),
        (lambda _b, _h, q, k: q // 4 == k // 4, 50, None),
        (lambda _b, _h, q, k: (q - k).abs() % 3 == 0, 50, None),
        (lambda _b, _h, q, k: k < q, 50, None),
    ],
)
def test_rules(rule, length: int, expected: Window | None) -> None:
    assert window_of(rule, length) == expected


def test_a_rule_that_reads_a_tensor_is_not_looked_at() -> None:
    """It may be on a GPU, and another one at the next call."""
    seen = torch.ones(50, 50, dtype=torch.bool)
    assert window_of(lambda _b, _h, q, k: seen[q, k], 50) is None


def test_a_rule_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    window_of(masking_utils.sliding_window_causal_mask_function(11), 60)
    monkeypatch.setattr("lightning_embed.encoder.window._measured", lambda *_: pytest.fail("looked at again"))
    assert window_of(masking_utils.sliding_window_causal_mask_function(11), 64) == Window(10, 0)
