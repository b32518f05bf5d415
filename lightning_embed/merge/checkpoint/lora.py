"""LoRA adapters as sources: added to each weight of the base on reading, so that the whole model is never in memory."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.directory import ADAPTER_CONFIG_FILE as CONFIG_FILE
from lightning_embed.merge.checkpoint.inside import inside
from lightning_embed.merge.checkpoint.name_matching import Header, Names, TensorInfo, prefixes_of
from lightning_embed.merge.checkpoint.reader import ModelDirectory, Place, mapped, read_header, with_modules
from lightning_embed.merge.checkpoint.weight_files import INDEX_FILE, WEIGHTS_FILE
from lightning_embed.merge.checkpoint.wrappers import unwrapped
from lightning_embed.merge.contract import Source
from lightning_embed.storage.json_file import read_json

ADAPTER_FILE = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<side>[AB])(?:\.weight)?")

_FOLDED = {
    "peft_type", "base_model_name_or_path", "r", "lora_alpha", "use_rslora", "alpha_pattern", "rank_pattern",
    "fan_in_fan_out", "init_lora_weights", "modules_to_save", "bias",
}  # fmt: skip
# The places of the adapters, which their names contain as well, the training, and settings of unused features.
_SILENT = {
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "task_type", "auto_mapping",
    "inference_mode", "lora_dropout", "revision", "peft_version", "megatron_core", "qalora_group_size", "eva_config",
    "runtime_config",
}  # fmt: skip
_FOLD_BY_PEFT = "Fold it with peft's merge_and_unload, and merge the result."
_SAVE_AGAIN = "Save the adapter again."
_STARTS_AT_THE_BASE = (True, False, "gaussian", "eva", "orthogonal")  # other methods change the base first


class MoreThanLora(CheckpointError):
    """An adapter that only peft can fold."""


@dataclass
class _Options:
    """The entries of an adapter's configuration that are read."""

    peft_type: str
    lora_alpha: float | None = None
    base_model_name_or_path: str | None = None
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool | None = False
    fan_in_fan_out: bool | None = False


@dataclass(frozen=True)
class LowRank:
    """The change of one weight: scale * B A, or its transpose.

    Args:
        down: A, of shape (rank, inputs).
        up: B, of shape (outputs, rank).
        scale: alpha / rank, or alpha / sqrt(rank).
        transposed: whether the weight is stored as (inputs, outputs).
    """

    down: tuple[Place, TensorInfo]
    up: tuple[Place, TensorInfo]
    scale: float
    transposed: bool

    @property
    def shape(self) -> torch.Size:
        """The shape of the weight that it changes."""
        shape = [self.up[1].shape[0], self.down[1].shape[1]]
        return torch.Size(shape[::-1] if self.transposed else shape)

    def added_to(self, weight: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        """The changed weight, in float32."""
        down, up = mapped(*self.down).float(), mapped(*self.up).float()
        left, right = (down.T, up.T) if self.transposed else (up, down)
        return torch.addmm(weight.float(), left, right, alpha=self.scale)


@dataclass(frozen=True)
class AdaptedModel(ModelDirectory):
    """A base with a LoRA adapter, as peft writes one (Hu et al. 2021, LoRA, arXiv 2106.09685): W + scale * B A.

    Args:
        base: the model that it adapts.
        changes: own name of a weight of the base -> how the adapter changes it.
        absent: tensors of the adapter for modules that the base lacks: heads.
    """

    base: ModelDirectory
    changes: Mapping[str, LowRank]
    absent: list[str]

    @property
    def files(self) -> list[Path]:
        """The weights of base and adapter, and the adapter's options, on which the result depends too."""
        own = {place.file for place in self.places.values() if place.file.is_relative_to(self.path)}
        return sorted({*self.base.files, *own, self.path / ADAPTER_FILE, self.path / CONFIG_FILE})

    @property
    def folders(self) -> list[Path]:
        """The folders of base and adapter; files beside the adapter (pooling, prompts) take precedence."""
        return [*self.base.folders, self.path]

    @property
    def dropped(self) -> list[str]:
        """Own names of the tensors without a part in the merge."""
        return sorted([*self.names.dropped, *self.absent])

    def tensor(self, name: str) -> Shaped[Tensor, "..."]:
        """One tensor, with the change by the adapter."""
        stored, change = super().tensor(name), self.changes.get(self._own(name))
        return stored if change is None else change.added_to(stored)


def is_adapter(folder: Path) -> bool:
    """Whether a directory holds an adapter in the format of peft."""
    return (folder / CONFIG_FILE).exists()


def read_options(folder: Path) -> dict[str, Any]:
    """The options of an adapter.

    Raises:
        CheckpointError: they cannot be read, or the directory holds a model besides, or a pickle instead of weights.
    """
    if any(inside(folder, file).exists() for file in (WEIGHTS_FILE, INDEX_FILE)):
        raise CheckpointError(f"{folder} holds a model and an adapter. Remove the one that is not to be merged.")
    options: dict[str, Any] = read_json(inside(folder, CONFIG_FILE), _Options, _SAVE_AGAIN)
    if not inside(folder, ADAPTER_FILE).is_file() and inside(folder, PICKLE).is_file():
        raise CheckpointError(
            f"{folder}: expected {ADAPTER_FILE}, found {PICKLE}. A pickle can run code and is never opened: save it "
            f"again with peft, PeftModel.from_pretrained(<base>, {str(folder)!r}).save_pretrained(...)."
        )
    return options


def fold_lora(source: Source, below: ModelDirectory, options: Mapping[str, Any]) -> AdaptedModel:
    """The adapter in the directory of `source`, folded into its base on reading.

    Args:
        source: the adapter.
        below: its base.
        options: of the adapter.

    Raises:
        MoreThanLora: an adapter of a different kind.
        CheckpointError: its weights cannot be read, or do not fit the base.
    """
    file = source.path / CONFIG_FILE
    _refuse_more(file, options)
    _refuse_unscaled(file, options)
    return with_modules(_adapted(source, below, options), source.path, below.layout.body)


def _refuse_more(file: Path, options: Mapping[str, Any]) -> None:
    """Refuse an adapter that is more than plain LoRA."""
    kind = options["peft_type"]
    others = {key: value for key, value in options.items() if value and key not in _FOLDED | _SILENT}
    if kind != "LORA":
        others = {"peft_type": kind}
    if options.get("init_lora_weights", True) not in _STARTS_AT_THE_BASE:
        others["init_lora_weights"] = options["init_lora_weights"]
    for key, value in others.items():
        raise MoreThanLora(f"{file}: {key}={value!r} is more than plain LoRA. {_FOLD_BY_PEFT}")


def _refuse_unscaled(file: Path, options: Mapping[str, Any]) -> None:
    """Refuse an adapter whose scale is not known."""
    if options.get("lora_alpha") is None:
        raise CheckpointError(f"{file}: lora_alpha: is missing. {_SAVE_AGAIN}")
    for pattern in options.get("alpha_pattern") or {}:
        if (reason := _misread(pattern)) is not None:
            raise CheckpointError(f"{file}: alpha_pattern: {pattern!r} is not a pattern ({reason}). {_SAVE_AGAIN}")


def _misread(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    return None


def _adapted(source: Source, below: ModelDirectory, options: Mapping[str, Any]) -> AdaptedModel:
    """Match the tensors of the adapter with those of the base."""
    file = inside(source.path, ADAPTER_FILE)
    header, places = read_header(file)
    factors: dict[str, dict[str, str]] = {}
    whole: dict[str, str] = {}
    bare, notes = unwrapped((key.removeprefix("base_model.model.") for key in header), file)
    keys = {stored.removeprefix("base_model.model."): stored for stored in header}
    for short, stored in bare.items():
        name, key = short.replace(".base_layer.", "."), keys[stored]
        if found := _FACTOR.fullmatch(name):
            factors.setdefault(f"{found['module']}.weight", {})[found["side"]] = key
        elif ".lora_" in name:
            raise MoreThanLora(f"{file} holds {key}, which is not a part of plain LoRA. {_FOLD_BY_PEFT}")
        else:
            whole[name] = key
    own = _own_names([*factors, *whole], below.header)
    for name in factors.keys() - own.keys():
        raise CheckpointError(
            f"{file} adapts {name}, which {below.path} lacks: it is the adapter of another model. Give the right base."
        )
    changes = {own[name]: _low_rank(name, keys, header, places, options, file) for name, keys in factors.items()}
    for name, change in changes.items():
        if change.shape != below.header[name].shape:
            raise CheckpointError(
                f"{file}: the change of {name} has the shape {list(change.shape)}, but the weight in {below.path} has "
                f"{list(below.header[name].shape)}. Give the right base."
            )
    kept = {own[name]: key for name, key in whole.items() if name in own}
    names = {name: name for name in below.header}
    return AdaptedModel(
        source.path,
        source.name,
        source.size,
        {**below.places, **{name: places[key] for name, key in kept.items()}},
        {**below.header, **{name: header[key] for name, key in kept.items()}},
        Names(names, []),
        below,
        changes,
        [key for name, key in whole.items() if name not in own],
        notes=(*below.notes, *notes),
        layout=below.layout,
    )


def _own_names(names: Iterable[str], header: Header) -> dict[str, str]:
    """Name in the adapter -> name in the base; one of them may have a prefix that the other lacks."""
    adapted = list(names)
    ways = [(prefix, "") for prefix in prefixes_of(header)] + [("", prefix) for prefix in prefixes_of(adapted)]
    found = [
        {name: own for name in adapted if (own := more + name.removeprefix(less)) in header} for more, less in ways
    ]
    return max(found, key=len)


def _low_rank(
    name: str,
    keys: Mapping[str, str],
    header: Header,
    places: Mapping[str, Place],
    options: Mapping[str, Any],
    file: Path,
) -> LowRank:
    if keys.keys() != {"A", "B"} or any(len(header[key].shape) != 2 for key in keys.values()):
        raise MoreThanLora(
            f"{file} has no two matrices for {name}: only linear layers and embeddings can be folded. {_FOLD_BY_PEFT}"
        )
    down, up = keys["A"], keys["B"]
    module, rank = name.removesuffix(".weight"), header[down].shape[0]
    patterns = options.get("alpha_pattern") or {}
    alpha = next((a for p, a in patterns.items() if re.fullmatch(rf"(.*\.)?({p})", module)), options["lora_alpha"])
    return LowRank(
        down=(places[down], header[down]),
        up=(places[up], header[up]),
        scale=alpha / (math.sqrt(rank) if options.get("use_rslora") else rank),
        transposed=bool(options.get("fan_in_fan_out")) or "lora_embedding_" in down,
    )
