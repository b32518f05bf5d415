"""The dtype of computation."""

from collections.abc import Iterator

import pytest
import torch

from lightning_embed.encoder import precision
from lightning_embed.encoder.options import Dtype

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _of_no_machine() -> Iterator[None]:
    precision._fast_at_bfloat16.cache_clear()
    yield
    precision._fast_at_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("tiles", "vectors", "intel", "expected"),
    [
        (True, True, True, torch.bfloat16),  # Sapphire Rapids
        (False, True, True, torch.float32),  # Cooper Lake, or a virtual machine that hides the tiles
        (False, True, False, torch.bfloat16),  # Zen 4 and 5
        (False, False, True, torch.float32),
        (False, False, False, torch.float32),
    ],
)
def test_auto_on_a_processor(
    tiles: bool, vectors: bool, intel: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vectors)
    monkeypatch.setattr(precision, "_is_intel", lambda: intel)
    assert precision.compute_dtype(Dtype.auto, CPU, training=True) is expected
    assert precision.compute_dtype(Dtype.auto, CPU, training=False) is torch.float32
    assert precision.compute_dtype(Dtype.bfloat16, CPU, training=False) is torch.bfloat16
