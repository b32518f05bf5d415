"""The manifest of a sentence-transformers directory: modules.json and the files that it names.

Written in the spelling of the older releases, which newer ones read too; both spellings are read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import (
    Any,
    NotRequired,  # see lightning_embed.types
)

from typing_extensions import TypedDict

from lightning_embed.encoder.options import Pooling
from lightning_embed.encoder.prompts import PromptSet
from lightning_embed.errors import CheckpointError
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.json_file import read_json

_MODULES = ("Transformer", "Pooling", "Normalize")
_POOLING = {
    "mean": Pooling.mean,
    "cls": Pooling.cls,
    "lasttoken": Pooling.last_token,
    "weightedmean": Pooling.weighted_mean,
}
_POOLING_FLAG = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_TRANSFORMER_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


class _Module(TypedDict):
    type: str
    path: str


class _TransformerConfig(TypedDict):
    max_seq_length: NotRequired[int | None]
    do_lower_case: NotRequired[bool | None]


class _PoolingConfig(TypedDict):
    pooling_mode: NotRequired[str | list[str] | None]
    include_prompt: NotRequired[bool]


class _PromptsConfig(TypedDict):
    prompts: NotRequired[dict[str, str] | None]
    default_prompt_name: NotRequired[str | None]


@dataclass(frozen=True)
class Manifest:
    """Pooling, length and prompts of a model directory. The defaults are for a plain Hugging Face directory."""

    pooling: Pooling = Pooling.mean
    normalize: bool = True
    max_length: int | None = None
    lowercase: bool = False
    prompts: PromptSet = field(default_factory=PromptSet)
    subfolder: str = ""  # of the backbone: "0_Transformer" in the oldest directories


def read_manifest(path: str, revision: str | None = None) -> Manifest:
    """Read the manifest of a hub name or a directory.

    Raises:
        CheckpointError: a file is broken, or `Encoder` does not support a module.
    """
    modules = _read_json(path, "modules.json", revision, list[_Module])
    if modules is None:
        return Manifest()
    folders = _module_folders(path, modules)
    subfolder = folders["Transformer"]
    candidates = (
        _read_json(path, _join(subfolder, name), revision, _TransformerConfig) for name in _TRANSFORMER_CONFIGS
    )
    transformer: Mapping[str, Any] = next((config for config in candidates if config is not None), {})
    pooling = _read_json(path, _join(folders["Pooling"], "config.json"), revision, _PoolingConfig) or {}
    return Manifest(
        pooling=_read_pooling(path, pooling),
        normalize="Normalize" in folders,
        max_length=transformer.get("max_seq_length"),
        lowercase=bool(transformer.get("do_lower_case")),
        prompts=PromptSet.from_sentence_transformers(
            _read_json(path, "config_sentence_transformers.json", revision, _PromptsConfig) or {}
        ),
        subfolder=subfolder,
    )


def refuse_broken_json(path: str, subfolder: str) -> None:
    """Name the first file of a directory that transformers cannot read: its own errors do not.

    Raises:
        CheckpointError: a configuration or a tokenizer that is no JSON object.
    """
    if Path(path).is_dir():
        for file in ("config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"):
            for name in dict.fromkeys((file, _join(subfolder, file))):
                _read_json(path, name, None, dict)


def write_manifest(folder: Path, manifest: Manifest, dim: int) -> None:
    """Complete `folder`, which holds a backbone and its tokenizer, to a sentence-transformers directory."""
    names = {"Transformer": "", "Pooling": "1_Pooling"} | ({"Normalize": "2_Normalize"} if manifest.normalize else {})
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(names.items())
    ]
    mode = next(mode for mode, pooling in _POOLING.items() if pooling is manifest.pooling)
    pooling = {"word_embedding_dimension": dim} | {flag: name == mode for flag, name in _POOLING_FLAG.items()}
    _write_json(folder / "modules.json", modules)
    _write_json(folder / "1_Pooling" / "config.json", pooling | {"include_prompt": True})
    _write_json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": manifest.max_length, "do_lower_case": manifest.lowercase},
    )
    _write_json(
        folder / "config_sentence_transformers.json",
        manifest.prompts.to_sentence_transformers() | {"similarity_fn_name": "cosine"},
    )
    if manifest.normalize:
        (folder / "2_Normalize").mkdir(exist_ok=True)


def _module_folders(path: str, modules: list[_Module]) -> dict[str, str]:
    folders = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
    if tuple(folders) not in (_MODULES[:2], _MODULES):
        raise CheckpointError(
            f"{path}: expected the sentence-transformers modules Transformer, Pooling and perhaps Normalize, got "
            f"{', '.join(folders)}. Use a model without the others, or save its Transformer alone and load that."
        )
    return folders


def _read_pooling(path: str, config: Mapping[str, Any]) -> Pooling:
    flags = [mode for flag, mode in _POOLING_FLAG.items() if config.get(flag)]
    given = config.get("pooling_mode") or flags or ["mean"]
    modes: list[str] = [given] if isinstance(given, str) else given
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise CheckpointError(
            f"{path}: expected one pooling of {', '.join(_POOLING)}, got {' + '.join(modes)}. Use a different "
            "model, or load its Transformer alone and choose encoder.pooling."
        )
    if not config.get("include_prompt", True):
        raise CheckpointError(
            f"{path}: pooling leaves the prompt out (include_prompt: false), expected it in. Use a different model."
        )
    return _POOLING[modes[0]]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _read_json(path: str, name: str, revision: str | None, shape: Any) -> Any:
    """Content of a file of a directory or hub name; None if it does not exist."""
    file = Path(path) / name if Path(path).is_dir() else _cached(path, name, revision)
    if file is None or not file.exists():
        return None
    return read_json(file, shape, "Copy or download it again.", name=f"{path}/{name}")


def _cached(path: str, name: str, revision: str | None) -> Path | None:
    from transformers.utils.hub import cached_file

    try:
        return Path(cached_file(path, name, revision=revision) or "")
    except (OSError, ValueError):  # no such file, or no network: then loading the weights raises
        return None


def _write_json(file: Path, content: object) -> None:
    write_whole(file, json.dumps(content, indent=2, sort_keys=True) + "\n")
