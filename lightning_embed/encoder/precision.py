"""The dtype of computation on a machine."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from lightning_embed.encoder.options import Dtype, EncoderOptions


@runtime_checkable
class HasOptions(Protocol):
    """An encoder."""

    options: EncoderOptions


@contextmanager
def computing_in(encoder: HasOptions, dtype: Dtype) -> Iterator[None]:
    """Let an encoder compute in this dtype in the block."""
    options = encoder.options
    encoder.options = replace(options, dtype=dtype)
    try:
        yield
    finally:
        encoder.options = options


def compute_dtype(dtype: Dtype, device: torch.device, training: bool) -> torch.dtype:
    """Resolve the option for a device; `auto` is float32 outside of training."""
    if dtype is not Dtype.auto:
        return getattr(torch, dtype)  # type: ignore[no-any-return]
    return torch.bfloat16 if training and _fast_at_bfloat16(device.type) else torch.float32


@cache
def _fast_at_bfloat16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return False
    # Intel's vector units multiply bfloat16 on one of the two ports that multiply float32, so only its tiles (AMX) are
    # faster: 1.35 times as slow were measured without them. AMD's multiply it twice as fast as float32.
    return torch.cpu._is_amx_tile_supported() or (torch.cpu._is_avx512_bf16_supported() and not _is_intel())


def _is_intel() -> bool:
    known = Path("/proc/cpuinfo")  # of Linux; on Windows the name of the processor ends with the vendor's
    return "GenuineIntel" in (known.read_text() if known.exists() else platform.processor())
