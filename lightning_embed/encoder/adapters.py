"""Adapters that train in place of the backbone's weights, by peft: LoRA by short options, or any that can be folded."""

import warnings
from collections.abc import Collection, Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from lightning_embed.encoder.folding import folded_layer
from lightning_embed.encoder.options import EncoderOptions
from lightning_embed.encoder.weights import dense_copy, is_stored
from lightning_embed.errors import ConfigError, nearest
from lightning_embed.runtime.seeding import derive_seed

_TOLERANCE = 1e-4  # of the largest output: a wrong fold differs by more than a tenth
_NOISE = 0.1  # of the weights of an adapter that is tried


def require_peft(option: str) -> None:
    """Refuse adapters without peft.

    Raises:
        ConfigError: peft is not installed.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"{option}: expected the package peft, got none. pip install 'lightning-embed[lora]', or leave it out."
        ) from error


def add_adapters(backbone: nn.Module, options: EncoderOptions, unused: Collection[str]) -> None:
    """Freeze `backbone` and add adapters to its layers, initialised with a fixed seed.

        LoRA:  W x  becomes  W x + alpha / rank B A x,   A random, B zero at the start

    Hu et al. 2021, LoRA, arXiv 2106.09685.

    Args:
        backbone: the model.
        options: of the adapters.
        unused: parameters without effect on an embedding, such as BERT's pooler: LoRA leaves those layers out.

    Raises:
        ConfigError: peft is not installed; the options name no layer or no adapter; or it cannot be folded.
    """
    option = f"encoder.lora_rank={options.lora_rank}" if not options.peft else "encoder.peft"
    require_peft(option)
    from peft import inject_adapter_in_model

    config = _configured(options) if options.peft else _lora(backbone, options, unused)
    _make_dense(backbone, config.modules_to_save or ())
    with torch.random.fork_rng(devices=()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they warn of is checked below
        torch.default_generator.manual_seed(derive_seed("lora"))
        try:
            inject_adapter_in_model(config, backbone)
        except Exception as error:  # of any class: methods check their options in many ways
            raise ConfigError(_not_injected(option, config, options.path, _sentence(error))) from error
        _check_folding(backbone, option)


def freeze_unused(backbone: nn.Module, result: Tensor, options: EncoderOptions) -> None:
    """Freeze adapters of layers on which an embedding does not depend: DistributedDataParallel would wait for them.

    Raises:
        ConfigError: that is all of them.
    """
    trained = [p for p in backbone.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(result.sum(), trained, allow_unused=True) if result.requires_grad else ()
    if all(gradient is None for gradient in gradients):
        option = "encoder.peft" if options.peft else "encoder.lora_targets"
        raise ConfigError(f"{option}: no adapted layer has an effect on an embedding. Name other layers.")
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def _lora(backbone: nn.Module, options: EncoderOptions, unused: Collection[str]) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,  # type: ignore[arg-type]  # peft only divides it by the rank
        lora_dropout=options.lora_dropout,
        target_modules=_targets(backbone, options, unused),
    )


def _configured(options: EncoderOptions) -> Any:
    """The object of `encoder.peft`."""
    from hydra.utils import instantiate
    from peft import PeftConfig

    target = options.peft.get("_target_")
    try:
        config = instantiate(options.peft, _convert_="all")
    except Exception as error:  # an import may fail in any way, and a class refuse any value
        raise ConfigError(
            f"encoder.peft: {target} refuses its options: {_sentence(error.__cause__ or error)}."
        ) from error
    if not isinstance(config, PeftConfig):
        raise ConfigError(
            f"encoder.peft._target_={target}: expected a configuration of peft, such as peft.LoraConfig, got "
            f"{type(config).__name__}."
        )
    return config


def _targets(backbone: nn.Module, options: EncoderOptions, unused: Collection[str]) -> list[str]:
    """Full names of the linear layers to adapt; `lora_targets` names them by the end of their name."""
    linear = [
        name
        for name, layer in backbone.named_modules()
        if isinstance(layer, nn.Linear) and f"{name}.weight" not in unused
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


def _make_dense(backbone: nn.Module, names: Collection[str]) -> None:
    """Make layers that will train whole ordinary ones, by the ends of their names: narrow weights do not train."""
    chosen = [layer for name, layer in backbone.named_modules() if any(name.endswith(end) for end in names)]
    inside = {id(part) for layer in chosen for part in layer.modules() if is_stored(part)}
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if id(child) in inside:
                setattr(parent, name, dense_copy(child))


def _not_injected(option: str, config: Any, path: str, reason: str) -> str:
    kind = type(config).__name__.removesuffix("Config")
    tokens = config.is_prompt_learning or config.is_adaption_prompt
    more = " It adds tokens or keys, which no weight can hold." if tokens else ""
    return (
        f"{option}: peft cannot put {kind} into the layers of {path} ({reason}).{more} Choose an adapter of layers: "
        "peft.LoraConfig, peft.LoHaConfig, peft.IA3Config ..."
    )


def _check_folding(backbone: nn.Module, option: str) -> None:
    """Fold one layer of each kind, with noise in its adapter, and compare.

    Raises:
        ConfigError: the method does not fold, or not exactly.
    """
    tried = set()
    for name, layer in _adapted(backbone):
        kind = (type(layer), type(layer.get_base_layer()))
        if kind in tried:
            continue
        tried.add(kind)
        try:
            found = _difference(layer)
        except Exception as error:  # of any class, from peft
            raise ConfigError(_refused(option, name, layer, _sentence(error))) from error
        if not found <= _TOLERANCE:
            raise ConfigError(_refused(option, name, layer, f"its outputs would change by {found:.1g} of the largest"))
    if not tried and not any(p.requires_grad for p in backbone.parameters()):
        raise ConfigError(f"{option}: it adapts no layer. Name other layers (target_modules).")


def _refused(option: str, name: str, layer: Any, reason: str) -> str:
    kind = type(layer).__module__.split(".")[-2]
    return (
        f"{option}: {kind} of {name} cannot be folded into weights ({reason}), and a saved model has no adapters. "
        "Choose a different one, such as peft.LoraConfig."
    )


def _adapted(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The layers with an adapter, without what is inside them."""
    for name, child in module.named_children():
        if hasattr(child, "get_base_layer"):
            yield prefix + name, child
        else:
            yield from _adapted(child, f"{prefix}{name}.")


def _difference(layer: Any) -> float:
    """The largest change of the outputs of a layer with a noisy adapter by folding, as a share of the largest output."""
    base = dense_copy(layer.get_base_layer())
    tried = deepcopy(layer, {id(layer.get_base_layer()): base}).eval()
    own = {id(parameter) for parameter in base.parameters()}
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.default_generator.manual_seed(0)
        for parameter in tried.parameters():
            if parameter.requires_grad and id(parameter) not in own:
                parameter += _NOISE * torch.randn_like(parameter)
        plain = folded_layer(tried).eval()
        inputs = _inputs(base)
        if inputs is None:
            return 0.0
        expected, found = tried(inputs), plain(inputs)
    return float((expected - found).abs().max() / expected.abs().max().clamp_min(1e-12))


def _inputs(base: Any) -> Tensor | None:
    """Inputs of a layer; None: of this class none are known."""
    device = next(base.parameters()).device
    if isinstance(base, nn.Linear):
        return torch.randn(4, base.in_features).to(device)
    if isinstance(base, nn.Embedding):
        return torch.arange(min(4, base.num_embeddings), device=device)
    weight = getattr(base, "weight", None)
    if isinstance(weight, Tensor) and weight.ndim == 1:  # a norm
        return torch.randn(4, len(weight)).to(device)
    return None


def _sentence(error: BaseException) -> str:
    """The first sentence of an error, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(". ")[0].rstrip(".")
