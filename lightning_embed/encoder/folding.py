"""Ordinary weights of a backbone with adapters, or with weights in fewer bytes, written layer by layer in float32."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from lightning_embed.encoder.weights import dense_copy, is_stored
from lightning_embed.merge.checkpoint.name_matching import TensorInfo
from lightning_embed.merge.checkpoint.writer import write_tensors

_SHARD = 50 * 10**9  # bytes: that of transformers


def save_folded(backbone: Any, folder: Path) -> None:
    """Write a backbone as transformers does, with its adapters folded into its weights, in float32.

    One layer is folded at a time, so that no second copy of the model is in memory.
    """
    state = Folded(backbone)
    shapes = {name: torch.empty(info.shape, dtype=info.dtype, device="meta") for name, info in state.header.items()}
    names = {id(tensor): name for name, tensor in shapes.items()}
    written = revert_weight_conversion(backbone, dict(shapes))
    if any(id(tensor) not in names for tensor in written.values()):  # a family whose files join or cut tensors
        whole = {name: state.tensor(name) for name in shapes}
        backbone.save_pretrained(folder, state_dict=whole)
    else:
        backbone.save_pretrained(folder, state_dict={})  # its configuration, and its code
        stored_as = {name: names[id(tensor)] for name, tensor in written.items()}

        def pieces(wanted: Sequence[str]) -> Iterable[Tensor]:
            return (state.tensor(stored_as[name]).detach().cpu() for name in wanted)

        write_tensors(folder, {name: state.header[own] for name, own in stored_as.items()}, pieces, _SHARD)
    _name_dtype(folder / "config.json")


def folded_layer(layer: nn.Module) -> nn.Module:
    """An ordinary layer that computes what a layer with an adapter does in inference, in float32: by peft's own merge.

    Raises:
        Exception: of any class, from peft: this adapter cannot be folded.
    """
    base: Any = layer.get_base_layer()  # type: ignore[operator]
    plain = dense_copy(base)
    twin: Any = deepcopy(layer, {id(base): plain}).float()  # the copy has `plain` where the layer has its base
    with torch.no_grad():
        twin.merge()
    if not twin.merged:
        raise NotImplementedError("it has no weights to fold into")
    merged: nn.Module = twin.get_base_layer()
    return merged


@dataclass(frozen=True)
class _Part:
    """A module whose tensors are found together.

    Args:
        module: of the backbone.
        shapes: the module that has the names and shapes of its tensors.
        dense: gives the module with the tensors.
    """

    module: nn.Module
    shapes: nn.Module
    dense: Callable[[], nn.Module]


class Folded:
    """The tensors of a backbone under the names of the base, folded and dense, one layer at a time.

    `header` has their shapes, by name; of tied tensors, those that transformers keeps.
    """

    def __init__(self, backbone: Any) -> None:
        self._plain: dict[str, Tensor] = {}
        self._parts: dict[str, tuple[_Part, str]] = {}
        self._last: tuple[_Part | None, dict[str, Tensor]] = (None, {})
        for prefix, part in _parts(backbone):
            if isinstance(part, Tensor):
                self._plain[prefix] = part
            else:
                self._parts |= {f"{prefix}.{name}": (part, name) for name in part.shapes.state_dict()}
        self.header = {name: self._info(name) for name in self._names(backbone)}

    def tensor(self, name: str) -> Tensor:
        """A tensor; those of the last layer asked for are kept."""
        if name in self._plain:
            return _dense(self._plain[name])
        part, own = self._parts[name]
        if self._last[0] is not part:
            self._last = (None, {})  # freed before the next one is made
            self._last = (part, part.dense().state_dict())
        return self._last[1][own]

    def _info(self, name: str) -> TensorInfo:
        if name in self._plain:
            tensor = self._plain[name]
        else:
            part, own = self._parts[name]
            tensor = part.shapes.state_dict()[own]
        stored_dense = torch.float32 if tensor.is_floating_point() else tensor.dtype
        return TensorInfo(stored_dense, tensor.shape)

    def _names(self, backbone: Any) -> list[str]:
        """All names, without those that transformers leaves out: tied to another one, or ignored."""
        marks: dict[Any, Tensor] = {}
        state: dict[str, Tensor] = {}
        for name in (*self._plain, *self._parts):
            key = self._plain[name].data_ptr() if name in self._plain else _source(*self._parts[name])
            # one element stands for a tensor: tied ones share it, as transformers expects
            state[name] = marks.setdefault(key, torch.zeros(1))
        for name in backbone._keys_to_ignore_on_save or ():
            state.pop(name, None)
        return list(remove_tied_weights_from_state_dict(state, backbone))


def _source(part: _Part, name: str) -> tuple[int, str]:
    return id(part.module), name


def _dense(tensor: Tensor) -> Tensor:
    return tensor.detach().float() if tensor.is_floating_point() else tensor.detach()


def _parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, _Part | Tensor]]:
    """The parts and tensors of a module, by the names of the base."""
    kept = {name for name, _ in module.named_buffers("", False)} - module._non_persistent_buffers_set
    for name, tensor in (*module.named_parameters("", False), *module.named_buffers("", False)):
        if name in kept or isinstance(tensor, nn.Parameter):
            yield f"{prefix}{name}", tensor
    for name, child in module.named_children():
        yield from _part(child, f"{prefix}{name}")


def _part(module: Any, name: str) -> Iterator[tuple[str, _Part | Tensor]]:
    wrapped = _wrapped(module)
    if wrapped is not None:
        yield from _part(wrapped, name)
    elif is_stored(module):
        yield name, _Part(module, _skeleton(module), lambda: dense_copy(module))
    elif hasattr(module, "get_base_layer"):
        yield name, _Part(module, _skeleton(module.get_base_layer()), lambda: folded_layer(module))
    else:
        yield from _parts(module, f"{name}.")


def _wrapped(module: nn.Module) -> nn.Module | None:
    """What a wrapper of peft runs: its trained copy (modules_to_save), or a table with trained rows; None: no wrapper."""
    if not hasattr(module, "original_module"):
        return None
    rows: nn.Module | None = getattr(module, "token_adapter", None)
    copies: Any = getattr(module, "modules_to_save", None)
    return rows if copies is None else copies[module.active_adapters[0]]  # type: ignore[index]


def _skeleton(module: Any) -> nn.Module:
    """A module with the names and shapes of the tensors of a base layer, without their bytes."""
    if not is_stored(module):
        plain: nn.Module = module
        return plain
    skeleton: Any = nn.Module()
    shape = (
        (module.out_features, module.in_features)
        if isinstance(module, nn.Linear)
        else (module.num_embeddings, module.embedding_dim)
    )
    skeleton.weight = nn.Parameter(torch.empty(shape, device="meta"))
    if getattr(module, "bias", None) is not None:
        skeleton.bias = module.bias
    found: nn.Module = skeleton
    return found


def _name_dtype(file: Path) -> None:
    """Name float32 in a configuration, and in the ones inside: libraries open a model in the dtype that it names."""
    content = json.loads(file.read_text())
    file.write_text(json.dumps(_in_float32(content), indent=2, sort_keys=True) + "\n")


def _in_float32(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        key: "float32" if key == "dtype" and isinstance(item, str) else _in_float32(item) for key, item in value.items()
    }
