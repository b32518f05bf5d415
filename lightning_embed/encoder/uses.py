"""Which parameters of a backbone an embedding depends on."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Uses:
    """Watches a backbone compute something, inside its context.

    The gradients of all weights, which say it, take as much memory as the weights do; and weights that are stored as
    integers have none. So a backbone whose weights will not train is frozen, and the outputs of its layers are watched.

    Args:
        backbone: the model.
        head: parameters of the head, by name: they train in any case.
        frozen: freeze the backbone, and watch its layers.
    """

    def __init__(self, backbone: nn.Module, head: Mapping[str, nn.Parameter], frozen: bool) -> None:
        self._parameters = {**({} if frozen else dict(backbone.named_parameters())), **head}
        self._layers = {name: m for name, m in backbone.named_modules() if frozen and [*m.parameters(recurse=False)]}
        self._outputs: dict[str, list[Tensor]] = {name: [] for name in self._layers}
        if frozen:
            backbone.requires_grad_(False)

    def __enter__(self) -> "Uses":
        self._hooks = [layer.register_forward_hook(self._noting(name)) for name, layer in self._layers.items()]
        self._stance = torch.compiler.set_stance("force_eager" if self._layers else "default")
        self._stance.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stance.__exit__(*raised)
        for hook in self._hooks:
            hook.remove()

    def _noting(self, name: str) -> Any:
        def note(module: nn.Module, arguments: Any, output: Any) -> Any:  # noqa: ARG001
            if not torch.is_grad_enabled():
                return None
            if isinstance(output, tuple):
                return tuple(self._noted(name, part) for part in output)
            return self._noted(name, output)

        return note

    def _noted(self, name: str, part: Any) -> Any:
        """A part of an output, kept; what follows gets a copy, which it may change in place."""
        if not isinstance(part, Tensor) or not part.is_floating_point():
            return part
        kept = part if part.requires_grad else part.detach().requires_grad_()
        self._outputs[name].append(kept)
        return kept.clone()

    def unused(self, result: Tensor) -> set[str]:
        """The names of the parameters on which a result does not depend; of stored weights, `weight`."""
        watched = [(name, part) for name, parts in self._outputs.items() for part in parts]
        used = _with_gradient(result, [*self._parameters.items(), *watched])
        idle = {name: layer for name, layer in self._layers.items() if name not in used}
        own = [(layer, name) for layer, m in idle.items() for name, _ in m.named_parameters(recurse=False)]
        stored = {f"{layer}.{'weight' if name == 'stored' else name}".lstrip(".") for layer, name in own}
        return stored | (self._parameters.keys() - used)


def _with_gradient(result: Tensor, tensors: Sequence[tuple[str, Tensor]]) -> set[str]:
    """The names of tensors on which a result depends."""
    if not tensors:  # a frozen table, and no head with weights
        return set()
    gradients = torch.autograd.grad(result.sum(), [tensor for _, tensor in tensors], allow_unused=True)
    return {name for (name, _), found in zip(tensors, gradients, strict=True) if found is not None}
