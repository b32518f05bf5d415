"""Recognition of quantised checkpoints, whose tensors are codes and scales: averages of them mean nothing."""

import re
from pathlib import Path
from typing import Any

import torch

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.inside import inside
from lightning_embed.merge.checkpoint.name_matching import Header
from lightning_embed.merge.checkpoint.weight_files import read_config

_KEYS = ("quantization_config", "compression_config")  # of transformers, and of older compressed-tensors
_OTHER_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq", "hf_quant_config.json": "modelopt"}
_CODES = re.compile(r"(.*\.)?(weight|qweight|qzeros|weight_packed|\w+_blocks|W_q)")
_SCALES = re.compile(r".*(_scale|_scale_inv|_scales|\.scales|\.SCB|\.absmax|_amax|\.zeros)(\..*)?")
_FLOAT8 = {
    dtype for name in dir(torch) if name.startswith("float8") and isinstance(dtype := getattr(torch, name), torch.dtype)
}
_FLOAT4 = getattr(torch, "float4_e2m1fn_x2", None)
_NARROW = (torch.int8, torch.uint8)
_MASKS = ("bias", "mask", "masked_bias")  # attention masks of GPT-2 and its kin


class QuantisedModel(CheckpointError):
    """A model whose weights are quantised."""


def refuse_quantised(folder: Path, header: Header) -> None:
    """Refuse codes and scales, named by their configuration or found among the tensors.

    Weights in 8-bit floats without any scales are plain numbers, and are read.

    Raises:
        QuantisedModel: with the method, and the way out.
    """
    if (method := _configured(folder) or _stored(header)) is not None:
        raise QuantisedModel(
            f"{folder} is quantised ({method}): its codes and scales cannot be merged. Load it with transformers, call "
            "dequantize(), and merge what save_pretrained writes; or merge the models before they are quantised."
        )


def is_quantised(folder: Path) -> bool:
    """Whether the configuration of a model says that it is quantised."""
    return _configured(folder) is not None


def _configured(folder: Path) -> str | None:
    """The method by the configuration files; None: not quantised."""
    config = read_config(folder)
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):  # text_config ...
        for options in (part.get(key) for key in _KEYS):
            if options:
                return _named(options)
    return next((method for name, method in _OTHER_FILES.items() if inside(folder, name).is_file()), None)


def _named(options: Any) -> str:
    options = options if isinstance(options, dict) else {}
    method = str(options.get("quant_method") or ("bitsandbytes" if "load_in_8bit" in options else "unknown"))[:40]
    bits = [f"{bits} bits" for bits in (4, 8) if options.get(f"load_in_{bits}bit") is True]
    return ", ".join([method, *bits])


def _stored(header: Header) -> str | None:
    """The method by dtypes and names of the tensors; None: not quantised."""
    scales = next((name for name in sorted(header) if _SCALES.fullmatch(name)), None)
    for name, info in sorted(header.items()):
        if info.dtype == _FLOAT4 or (info.dtype in _FLOAT8 and scales is not None):
            return f"{info.dtype} {name}" + (f" with {scales}" if scales else "")
        is_integer = not (info.dtype.is_floating_point or info.dtype.is_complex or info.dtype == torch.bool)
        if is_integer and (_CODES.fullmatch(name) or _is_narrow_matrix(name, info.dtype, len(info.shape))):
            return f"{info.dtype} {name}"
    return None


def _is_narrow_matrix(name: str, dtype: torch.dtype, axes: int) -> bool:
    return dtype in _NARROW and axes >= 2 and name.rpartition(".")[2] not in _MASKS
