"""Comparison of what follows the body of two sentence-transformers directories: modules, pooling, normalisation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_embed.merge.checkpoint.difference import Difference, differences, shown
from lightning_embed.merge.checkpoint.modules import Layout
from lightning_embed.merge.checkpoint.weight_files import CONFIG_FILE
from lightning_embed.storage.json_file import read_json

_REMEDY = "Fix it, or export the model again."
_OPTIONS_FILES = ("sentence_bert_config.json", "config_sentence_transformers.json")
# Of the user: where a text is cut, what precedes it, how embeddings are compared; and how the program opens the model.
_HARMLESS = frozenset(
    {
        "max_seq_length", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim", "__version__",
        "model_args", "tokenizer_args", "config_args", "model_kwargs", "processor_kwargs", "config_kwargs",
        "tokenizer_name_or_path", "model_type", "unpad_inputs",
    }
)  # fmt: skip
_QUIET = frozenset({"__version__", "model_args", "tokenizer_args", "config_args", "model_type"})
_FLAG = "pooling_mode_"
_MODES = {
    "cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean", "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean_tokens": "weightedmean", "lasttoken": "lasttoken",
}  # fmt: skip
_ABSENT = {"do_lower_case": False}


@dataclass
class _Pooling:
    """The part of a pooling's options whose type matters."""

    pooling_mode: str | list[str] | None = None


@dataclass(frozen=True)
class Chain:
    """What follows the body.

    Args:
        kinds: names of the classes of all modules, in order; empty: no sentence-transformers directory.
        pooling: settings of the pooling modules.
        options: further settings of the directory.
    """

    kinds: Sequence[str] = ()
    pooling: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def read_chain(layout: Layout, files: Mapping[str, Path]) -> Chain:
    """Read what follows the body.

    Args:
        layout: of the model.
        files: path in the directory -> file, of modules.json and what belongs to it.

    Raises:
        CheckpointError: a broken file, or a path that leads out of the directory.
    """
    options, pooling = dict[str, Any](), dict[str, Any]()
    for file in (file for file in files.values() if file.name in _OPTIONS_FILES):
        options |= _entries(file)
    for module in (module for module in layout.modules if module.kind == "Pooling"):
        own = files.get(f"{module.folder}/{CONFIG_FILE}")
        pooling |= _modes({} if own is None else read_json(own, _Pooling, _REMEDY))
    return Chain([module.kind for module in layout.modules], pooling, {**_ABSENT, **options})


def _entries(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(file, dict, _REMEDY)
    return found


def _modes(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a pooling, in the words of current versions (one word, or a list), with their defaults."""
    modes = options.get("pooling_mode")
    if modes is None:
        modes = [
            _MODES.get(key.removeprefix(_FLAG), key) for key, on in options.items() if key.startswith(_FLAG) and on
        ]
    several = sorted({modes} if isinstance(modes, str) else set(map(str, modes)))
    return {"mode": "+".join(several) or "mean", "include_prompt": options.get("include_prompt", True)}


def chain_differences(first: Chain, other: Chain) -> Iterator[Difference]:
    """The differences of two chains; none if one of the models is no sentence-transformers directory."""
    if not (first.kinds and other.kinds):
        return
    if list(first.kinds) != list(other.kinds):
        yield Difference("modules", ", ".join(first.kinds), ", ".join(other.kinds))
    yield from differences(first.pooling, other.pooling, "pooling")
    for key in (key for key in first.options if key in other.options and key not in _QUIET):
        if key in _HARMLESS:
            if first.options[key] != other.options[key]:
                yield Difference(key, shown(first.options[key]), shown(other.options[key]), harmless=True)
        else:
            yield from differences(first.options[key], other.options[key], key)
