"""A smaller backbone from a larger one: some of its layers, and a configuration that opens what remains.

Which entries of a configuration and which attributes belong to a layer is not known by family: an empty twin is built
from the new configuration, and whatever the kept layers have, it must have at the same place. So a saved directory
computes what is trained here, or is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from lightning_embed.encoder.options import EncoderOptions
from lightning_embed.errors import ConfigError

_PLAIN = (bool, int, float, str, type(None))
_NOT_OF_LAYERS = ("architectures",)


def cut_layers(backbone: Any, options: EncoderOptions) -> None:
    """Keep the layers that the options name, in place.

    Raises:
        ConfigError: there are fewer layers, their weights are shared (ALBERT), or the kept ones cannot be opened at
            their new places: of T5, layer 0 has weights that all layers use.
    """
    config = backbone.config.get_text_config()
    count = getattr(config, "num_hidden_layers", 0)
    lists = list(_lists(backbone, count))
    if not lists:
        raise ConfigError(
            f"{options.cut_option}: expected a model with a list of layers, got {options.path} "
            f"({backbone.config.model_type}), which has none, or one whose layers share their weights. Leave it out."
        )
    kept = options.layers or list(range(options.num_layers or count))
    if max(kept) >= count or len(kept) > count:
        raise ConfigError(
            f"{options.cut_option}: expected some of the {count} layers of {options.path}, 0 to {count - 1}, got "
            f"{options.num_layers or kept}. Give fewer."
        )
    for parent, name in lists:
        layers = getattr(parent, name)
        setattr(parent, name, nn.ModuleList(layers[number] for number in kept))
    for key, value in list(vars(config).items()):
        if _is_per_layer(key, value, count):
            setattr(config, key, type(value)(value[number] for number in kept))
    config.num_hidden_layers = len(kept)
    try:
        with torch.device("meta"):
            twin = type(backbone)(deepcopy(backbone.config))
    except Exception as error:  # of any class: configurations check their entries in their own ways
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise _refused(options, backbone, kept, f"its configuration does not take them ({reason})") from error
    _agree(backbone, twin, kept, count, options)


def _lists(backbone: nn.Module, count: int) -> Iterator[tuple[nn.Module, str]]:
    """The lists with one module for each layer, as (their parent, name): XLM has several, most families one."""
    found: list[str] = []
    for name, module in backbone.named_modules():
        inside = any(name.startswith(f"{other}.") for other in found)
        if isinstance(module, nn.ModuleList) and len(module) == count and not inside:
            found.append(name)
            parent, _, own = name.rpartition(".")
            yield backbone.get_submodule(parent), own


def _is_per_layer(key: str, value: Any, count: int) -> bool:
    named = key in _NOT_OF_LAYERS or key.startswith("_") or key.endswith("token_id")
    return isinstance(value, (list, tuple)) and len(value) == count and not named


def _agree(backbone: Any, twin: Any, kept: Sequence[int], count: int, options: EncoderOptions) -> None:
    """Renumber the layers as they are in the twin, and refuse any other difference."""
    own, wanted = ({name for name, _ in model.named_parameters()} for model in (backbone, twin))
    if different := sorted(own ^ wanted):
        which = "has" if different[0] in own else "lacks"
        place = f"the layer at its place {which} {different[0]}: keep the first layer, or all before the last one"
        raise _refused(options, backbone, kept, place)
    renumbered = {(count, len(kept)), *((old, new) for new, old in enumerate(kept))}
    modules = dict(backbone.named_modules())
    for name, module in twin.named_modules():
        for key, (was, now) in _differences(modules[name], module).items():
            if type(was) is not int or (was, now) not in renumbered:
                place = f"{name}.{key} is {was}, and {now} at its new place: keep layers that follow in the same order of kinds"
                raise _refused(options, backbone, kept, place)
            setattr(modules[name], key, now)


def _differences(module: nn.Module, twin: nn.Module) -> Mapping[str, tuple[Any, Any]]:
    """Attributes of a module whose values are plain, and others in the twin."""
    both = vars(module).keys() & vars(twin).keys()
    values = {key: (vars(module)[key], vars(twin)[key]) for key in both if key != "training" and key[0] != "_"}
    return {
        key: pair for key, pair in values.items() if all(isinstance(x, _PLAIN) for x in pair) and pair[0] != pair[1]
    }


def _refused(options: EncoderOptions, backbone: Any, kept: Sequence[int], reason: str) -> ConfigError:
    return ConfigError(
        f"{options.cut_option}: {options.path} ({backbone.config.model_type}) cannot be saved with its layers "
        f"{', '.join(map(str, kept))} alone: {reason}."
    )
