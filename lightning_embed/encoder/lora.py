"""LoRA: low-rank adapters that train in place of the backbone's weights. For training, the one module with peft."""

from typing import Any

import torch
from torch import Tensor, nn

from lightning_embed.encoder.options import EncoderOptions
from lightning_embed.errors import ConfigError, nearest
from lightning_embed.runtime.seeding import derive_seed

_ADAPTER = "default"  # peft names adapters; a backbone has one


def add_adapters(backbone: nn.Module, options: EncoderOptions) -> None:
    """Freeze `backbone` and add an adapter to its linear layers, initialised with a fixed seed.

        W x  becomes  W x + alpha / rank B A x,   A random, B zero at the start

    Hu et al. 2021, LoRA, arXiv 2106.09685. Only layers that get a gradient are adapted: an adapter of BERT's pooler
    would get none.

    Raises:
        ConfigError: peft is not installed, or `lora_targets` names no linear layer.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError(
            f"encoder.lora_rank={options.lora_rank}: expected the package peft, got none. "
            "pip install 'lightning-embed[lora]', or set encoder.lora_rank=0."
        ) from error
    config = LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,  # type: ignore[arg-type]  # peft only divides it by the rank
        lora_dropout=options.lora_dropout,
        target_modules=_targets(backbone, options),
    )
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(derive_seed("lora"))
        inject_adapter_in_model(config, backbone)


def folded(backbone: nn.Module) -> dict[str, Tensor]:
    """The state of `backbone` with folded adapters, W + alpha / rank B A, under the names of the base."""
    from peft.tuners.lora import Linear

    state: dict[str, Any] = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in backbone.state_dict().items()
        if ".lora_" not in name
    }
    with torch.no_grad():
        for name, layer in backbone.named_modules():
            if isinstance(layer, Linear):
                state[f"{name}.weight"] = layer.weight + layer.get_delta_weight(_ADAPTER)
    return state


def _targets(backbone: nn.Module, options: EncoderOptions) -> list[str]:
    """Full names of the linear layers to adapt; `lora_targets` names them by the end of their name."""
    linear = [
        name for name, layer in backbone.named_modules() if isinstance(layer, nn.Linear) and layer.weight.requires_grad
    ]
    if not linear:
        raise ConfigError(f"encoder.lora_rank: {options.path} has no linear layers to adapt. Use lora_rank=0.")
    ends = options.lora_targets or linear
    for end in ends:
        if not any(_ends_with(name, end) for name in linear):
            raise ConfigError(
                f"encoder.lora_targets: expected the ends of names of linear layers of {options.path}, got {end!r}. "
                f"{nearest(end, {name.rpartition('.')[2] for name in linear})}"
            )
    return [name for name in linear if any(_ends_with(name, end) for end in ends)]


def _ends_with(name: str, end: str) -> bool:
    return f".{name}".endswith(f".{end}")
