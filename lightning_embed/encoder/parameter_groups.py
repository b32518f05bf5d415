"""Groups of parameters that an optimiser treats differently, from options."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from lightning_embed.errors import ConfigError
from lightning_embed.merge.layer_names import layer_of

_NONE: Mapping[str, float] = MappingProxyType({})
_ENCODER, _BACKBONE = "encoder.", "encoder.backbone."


@dataclass(frozen=True)
class ParameterGroups:
    """What an optimiser does differently for some of the parameters that train.

        learning rate of layer k of n = lr layer_decay^(n + 1 - k)

    The embeddings count as layer 0; norms behind the layers, and the head, as layer n + 1. Layer-wise decay is that of
    ELECTRA's code (Clark et al. 2020, arXiv 2003.10555). Parameters outside the encoder, which a loss or a training adds,
    never decay.

    Args:
        no_decay: no weight decay for norms and biases: parameters with fewer than two dimensions.
        layer_decay: see the formula; in (0, 1], typically 0.8 to 0.95; 1: the same rate for all layers.
        head_lr: learning rate of all that is not the backbone: the dense layers of the head, and what a training adds.
            None: as the backbone's top.

    Raises:
        ConfigError: a number out of its range.
    """

    no_decay: bool = False
    layer_decay: float = 1.0
    head_lr: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"parameter_groups.layer_decay must be in (0, 1], got {self.layer_decay}.")
        if self.head_lr is not None and not self.head_lr > 0:
            raise ConfigError(f"parameter_groups.head_lr must be positive or null, got {self.head_lr}.")

    def of(
        self, module: nn.Module, *, matrices: bool = False, rates: Mapping[str, float] = _NONE
    ) -> list[dict[str, Any]]:
        """The groups of the parameters of a training module, for an optimiser.

        Their options are those of torch, and `lr_factor` and `own_lr`, which `set_rates` takes out again.

        Args:
            module: of a training: its encoder is `encoder`.
            matrices: tell the matrices of the layers from all else, by `is_matrix`.
            rates: learning rates that some parameters have of their own, by name; they share no group with others.

        Raises:
            ConfigError: a layer-wise decay for a model without layers.
        """
        powers = self._powers(module)
        embeddings = set(map(id, _of_embeddings(module)))
        groups: dict[tuple[Any, ...], tuple[dict[str, Any], list[nn.Parameter]]] = {}
        for name, parameter in _trained(module):
            options: dict[str, Any] = {}
            if not name.startswith(_ENCODER) or (self.no_decay and parameter.ndim < 2):
                options["weight_decay"] = 0.0
            if name in rates:
                options["own_lr"] = rates[name]
            elif self.head_lr is not None and not name.startswith(_BACKBONE):
                options["own_lr"] = self.head_lr
            elif self.layer_decay != 1:
                options["lr_factor"] = self.layer_decay ** powers[name]
            if matrices:
                inside = _number(name) is not None and id(parameter) not in embeddings
                options["is_matrix"] = inside and parameter.ndim == 2
            groups.setdefault((name in rates, *options.items()), (options, []))[1].append(parameter)
        return [{"params": parameters, **options} for options, parameters in groups.values()]

    def _powers(self, module: nn.Module) -> dict[str, int]:
        """N + 1 - k for each parameter in layer k of n."""
        if self.layer_decay == 1:
            return {}
        # frozen ones too: with adapters, only some layers may train
        numbers = [found for name, _ in module.named_parameters() if (found := _number(name)) is not None]
        if not numbers:
            raise ConfigError(
                f"parameter_groups.layer_decay={self.layer_decay}: this model has no layers. Leave it out."
            )
        top, embeddings, powers, passed = max(numbers) + 2, set(map(id, _of_embeddings(module))), {}, False
        for name, parameter in module.named_parameters():
            number, in_backbone = _number(name), name.startswith(_BACKBONE)
            passed = passed or number is not None
            if number is not None:
                powers[name] = top - (number + 1)
            else:  # outside of the layers: embeddings before them, norms behind them
                is_below = in_backbone and (id(parameter) in embeddings or not passed)
                powers[name] = top if is_below else 0
        return powers


def set_rates(groups: list[dict[str, Any]], lr: float | None) -> None:
    """Set the learning rates of an optimiser's groups of `ParameterGroups.of`, in place; `lr` replaces the optimiser's."""
    for group in groups:
        base = group["lr"] if lr is None else lr
        group["lr"] = group.pop("own_lr", base) * group.pop("lr_factor", 1.0)


def _trained(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad)


def _of_embeddings(module: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of tables of embeddings, of tokens or of positions, wherever they are."""
    for part in module.modules():
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
            yield from part.parameters(recurse=False)


def _number(name: str) -> int | None:
    """The number of a parameter's layer, from 0; None: it is in none."""
    layer = layer_of(name.removeprefix(_BACKBONE)) if name.startswith(_BACKBONE) else ""
    number = layer.rpartition(".")[2]
    return int(number) if number.isdecimal() else None
