"""Quantised checkpoints are recognised, by their configuration and by their tensors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.quantised import QuantisedModel, is_quantised
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from tests.merge import toy

CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "gptq": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
    "awq": ({"quantization_config": {"quant_method": "awq"}}, "awq"),
    "8 bits": ({"quantization_config": {"load_in_8bit": True}}, "bitsandbytes, 8 bits"),
    "4 bits": (
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}},
        "bitsandbytes, 4 bits",
    ),
    "fp8": ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
    "mxfp4": ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4"),
    "compressed": ({"quantization_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
    "older": ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
    "of a part": ({"text_config": {"quantization_config": {"quant_method": "torchao"}}}, "torchao"),
    "a new one": ({"quantization_config": {"quant_method": "some day"}}, "some day"),
    "no object": ({"quantization_config": "int8"}, "unknown"),
}


def _open(folder: Path) -> ModelDirectory:
    return ModelDirectory.open(Source(folder, "a"))


@pytest.mark.parametrize(("config", "word"), CONFIGS.values(), ids=CONFIGS.keys())
def test_configured(config: dict[str, Any], word: str, tmp_path: Path) -> None:
    folder = toy.write(tmp_path / "a", toy.model(0))
    (folder / "config.json").write_text(json.dumps(config))
    assert is_quantised(folder)
    with pytest.raises(QuantisedModel, match=rf"^{folder} is quantised \({word}\): .* dequantize\(\), and merge"):
        _open(folder)


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json", "hf_quant_config.json"])
def test_files_of_other_programs(name: str, tmp_path: Path) -> None:
    folder = toy.write(tmp_path / "a", toy.model(0))
    (folder / name).write_text("{}")
    with pytest.raises(QuantisedModel):
        _open(folder)


@pytest.mark.parametrize(
    "config", [{}, {"quantization_config": None}, {"quantization_config": {}}, {"text_config": {}}]
)
def test_not_configured(config: dict[str, Any], tmp_path: Path) -> None:
    folder = toy.write(tmp_path / "a", toy.model(0))
    (folder / "config.json").write_text(json.dumps(config))
    assert not is_quantised(folder)
    assert _open(folder).parameters


def _bytes(dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.ones(shape).to(dtype)


CODES: dict[str, dict[str, Tensor]] = {
    "int8 with SCB": {"q.weight": _bytes(torch.int8, 4, 4), "q.SCB": torch.ones(4)},
    "4 bits of bitsandbytes": {"q.weight": _bytes(torch.uint8, 8, 1), "q.weight.absmax": torch.ones(2)},
    "gptq": {"q.qweight": _bytes(torch.int32, 2, 4), "q.scales": torch.ones(1, 4), "q.qzeros": _bytes(torch.int32, 1, 1)},
    "packed": {"q.weight_packed": _bytes(torch.int32, 2, 4), "q.weight_scale": torch.ones(4, 1)},
    "mxfp4": {"experts.down_proj_blocks": _bytes(torch.uint8, 2, 4, 8), "experts.down_proj_scales": _bytes(torch.uint8, 2, 4)},
    "hqq": {"q.W_q": _bytes(torch.uint8, 4, 2), "q.scale": torch.ones(4)},
    "fp8 in blocks": {"q.weight": _bytes(torch.float8_e4m3fn, 4, 4), "q.weight_scale_inv": torch.ones(1, 1)},
    "fp8 by row": {"q.weight": _bytes(torch.float8_e5m2, 4, 4), "q.weight_scale": torch.ones(4, 1)},
    "int8 embeddings without a scale": {"embeddings": _bytes(torch.int8, 4, 4)},
}  # fmt: skip


@pytest.mark.parametrize("codes", CODES.values(), ids=CODES.keys())
def test_found_among_the_tensors(codes: dict[str, Tensor], tmp_path: Path) -> None:
    folder = toy.write(tmp_path / "a", {**codes, "norm.weight": torch.ones(4)})
    with pytest.raises(QuantisedModel, match=r"is quantised \(torch\.\w+ \S+( with \S+)?\)"):
        _open(folder)


PLAIN: dict[str, Tensor] = {
    "embeddings.position_ids": torch.arange(8)[None],
    "embeddings.token_type_ids": torch.zeros(1, 8, dtype=torch.int64),
    "h.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8),
    "h.0.attn.mask": torch.ones(4, 4, dtype=torch.bool),
    "norm.num_batches_tracked": torch.tensor(3),
    "relative_position_index": torch.ones(4, 4, dtype=torch.int64),
    "logit_scale": torch.tensor(2.0),
    "half.weight": torch.ones(2, 2, dtype=torch.bfloat16),
}


@pytest.mark.parametrize("name", PLAIN)
def test_other_tensors(name: str, tmp_path: Path) -> None:
    assert _open(toy.write(tmp_path / "a", {name: PLAIN[name], "a.weight": torch.ones(2)})).header


def test_eight_bit_floats_without_scales_are_numbers(tmp_path: Path) -> None:
    narrow = [{"q.weight": torch.full((2, 2), value).to(torch.float8_e4m3fn)} for value in (1.0, 2.0)]
    merged = toy.merge(tmp_path, toy.strategy("soup"), narrow)
    assert merged["q.weight"].tolist() == [[1.5, 1.5], [1.5, 1.5]]
