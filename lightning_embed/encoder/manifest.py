"""The manifest of a sentence-transformers directory: modules.json and the files that it names.

Written in the spelling of the older releases, which newer ones read too; both spellings are read.
"""

import json
from collections.abc import Mapping, Sequence
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

_POOLING = {
    "mean": Pooling.mean,
    "cls": Pooling.cls,
    "lasttoken": Pooling.last_token,
    "weightedmean": Pooling.weighted_mean,
    "max": Pooling.max,
    "mean_sqrt_len_tokens": Pooling.mean_sqrt_len,
}
_POOLING_FLAG = {  # in the order in which sentence-transformers puts them side by side
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_TRANSFORMER_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
HEAD = ("Pooling", "Dense", "LayerNorm", "Normalize", "Dropout", "WeightedLayerPooling")
"""The modules after the body that an `Encoder` runs."""
STATIC = "StaticEmbedding"
_OURS = "sentence_transformers."


class _Module(TypedDict):
    type: str
    path: str


class _TransformerConfig(TypedDict):
    max_seq_length: NotRequired[int | None]
    do_lower_case: NotRequired[bool | None]


class _PoolingConfig(TypedDict):
    pooling_mode: NotRequired[str | list[str] | None]
    include_prompt: NotRequired[bool]


class _ModelConfig(TypedDict):
    prompts: NotRequired[dict[str, str] | None]
    default_prompt_name: NotRequired[str | None]
    similarity_fn_name: NotRequired[str | None]
    truncate_dim: NotRequired[int | None]


@dataclass(frozen=True)
class ModuleEntry:
    """A module of modules.json: the name of its class, and its folder."""

    kind: str
    folder: str


@dataclass(frozen=True)
class Manifest:
    """What a model directory says about its embeddings. The defaults are for a plain Hugging Face directory.

    Args:
        body: the first module: Transformer, or StaticEmbedding.
        modules: the modules after it; None: the directory has no modules.json.
        pooling: the pooling mode, where nothing but a normalisation follows it; None: the head is more than that.
        normalize: whether the embeddings are normalised at the end.
        max_length: tokens of a text.
        lowercase: whether texts are lowercased first.
        prompts: by name.
        similarity: sentence-transformers' name of the similarity of two embeddings.
        truncate_dim: the numbers of an embedding that are kept; None: all.
        subfolder: folder of the backbone: "0_Transformer" in the oldest directories.
    """

    body: str = "Transformer"
    modules: tuple[ModuleEntry, ...] | None = None
    pooling: Pooling | None = Pooling.mean
    normalize: bool = True
    max_length: int | None = None
    lowercase: bool = False
    prompts: PromptSet = field(default_factory=PromptSet)
    similarity: str = "cosine"
    truncate_dim: int | None = None
    subfolder: str = ""


def read_manifest(path: str, revision: str | None = None) -> Manifest:
    """Read the manifest of a hub name or a directory.

    Raises:
        CheckpointError: a file is broken, or `Encoder` does not support a module.
    """
    listed = _read_json(path, "modules.json", revision, list[_Module])
    if listed is None:
        return Manifest()
    body, *modules = _checked(path, listed)
    candidates = (
        _read_json(path, _join(body.folder, name), revision, _TransformerConfig) for name in _TRANSFORMER_CONFIGS
    )
    transformer: Mapping[str, Any] = next((config for config in candidates if config is not None), {})
    poolings = [
        _read_json(path, _join(module.folder, "config.json"), revision, _PoolingConfig) or {}
        for module in modules
        if module.kind == "Pooling"
    ]
    kinds = [module.kind for module in modules]
    simple = kinds in (["Pooling"], ["Pooling", "Normalize"])
    config = _read_json(path, "config_sentence_transformers.json", revision, _ModelConfig) or {}
    return Manifest(
        body=body.kind,
        modules=tuple(modules),
        pooling=_pooling(path, poolings, simple),
        normalize=kinds[-1:] == ["Normalize"],
        max_length=transformer.get("max_seq_length"),
        lowercase=bool(transformer.get("do_lower_case")),
        prompts=PromptSet.from_sentence_transformers(config),
        similarity=config.get("similarity_fn_name") or "cosine",
        truncate_dim=config.get("truncate_dim"),
        subfolder=body.folder,
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


def write_manifest(folder: Path, manifest: Manifest, modules: Sequence[ModuleEntry]) -> None:
    """Complete `folder`, which holds a backbone, its tokenizer and the `modules` of a head."""
    entries = [
        {"idx": number, "name": str(number), "path": module.folder, "type": f"{_OURS}models.{module.kind}"}
        for number, module in enumerate([ModuleEntry(manifest.body, ""), *modules])
    ]
    _write_json(folder / "modules.json", entries)
    if manifest.body != STATIC:
        _write_json(
            folder / "sentence_bert_config.json",
            {"max_seq_length": manifest.max_length, "do_lower_case": manifest.lowercase},
        )
    cut = {} if manifest.truncate_dim is None else {"truncate_dim": manifest.truncate_dim}
    _write_json(
        folder / "config_sentence_transformers.json",
        manifest.prompts.to_sentence_transformers() | {"similarity_fn_name": manifest.similarity} | cut,
    )


def write_pooling(folder: Path, dim: int, modes: Sequence[str], include_prompt: bool) -> None:
    """Write the configuration of a Pooling module."""
    flags = {flag: name in modes for flag, name in _POOLING_FLAG.items()}
    # Flags have no order. Where it is a different one, older releases stop at the word that they do not know.
    ordered = (
        {} if list(modes) == [mode for mode in _POOLING_FLAG.values() if mode in modes] else {"pooling_mode": modes}
    )
    _write_json(
        folder / "config.json",
        {"word_embedding_dimension": dim, **flags, **ordered, "include_prompt": include_prompt},
    )


def mode_of(pooling: Pooling) -> str:
    """The name of a pooling in sentence-transformers."""
    return next(mode for mode, word in _POOLING.items() if word is pooling)


def _checked(path: str, listed: list[_Module]) -> list[ModuleEntry]:
    """The modules of a directory: a Transformer, then those of a head."""
    modules = [ModuleEntry(entry["type"].rpartition(".")[2], entry["path"]) for entry in listed]
    foreign = [entry["type"] for entry in listed if not entry["type"].startswith(_OURS)]
    if foreign and not {module.kind for module in modules} <= {"Transformer", STATIC, *HEAD}:
        raise CheckpointError(
            f"{path}: its module {foreign[0]} is code in the directory, which is not run. Use a model whose modules "
            "are those of sentence-transformers."
        )
    static = [module.kind for module in modules[:1]] == [STATIC]
    if not (static or [m.kind for m in modules[:1]] == ["Transformer"]) or not {m.kind for m in modules[1:]} <= set(
        HEAD
    ):
        raise CheckpointError(
            f"{path}: expected the sentence-transformers modules Transformer or {STATIC}, then any of {', '.join(HEAD)}, got "
            f"{', '.join(module.kind for module in modules)}. Use a model without the others, or save its Transformer "
            "alone and load that."
        )
    if not static and "Pooling" not in [module.kind for module in modules]:
        raise CheckpointError(
            f"{path}: expected a Pooling among its modules, got {', '.join(module.kind for module in modules)}: its "
            "tokens have embeddings, its texts have none. Load its Transformer alone, and choose encoder.pooling."
        )
    return modules


def _pooling(path: str, configs: Sequence[Mapping[str, Any]], simple: bool) -> Pooling | None:
    words = [[_word(path, mode) for mode in _modes(config)] for config in configs]
    if not simple or not configs[0].get("include_prompt", True) or len(words[0]) != 1:
        return None
    return words[0][0]


def _modes(config: Mapping[str, Any]) -> list[str]:
    flags = [mode for flag, mode in _POOLING_FLAG.items() if config.get(flag)]
    given = config.get("pooling_mode") or flags or ["mean"]
    return [given] if isinstance(given, str) else list(given)


def _word(path: str, mode: str) -> Pooling:
    if mode not in _POOLING:
        raise CheckpointError(
            f"{path}: expected one pooling of {', '.join(_POOLING)}, got {mode}. Use a different model, or load its "
            "Transformer alone and choose encoder.pooling."
        )
    return _POOLING[mode]


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
