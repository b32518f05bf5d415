"""Tokenizers as their files describe them: the id of every token, and the settings that decide the tokens of a text."""

import filecmp
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.difference import Difference, differences, shown
from lightning_embed.storage.json_file import read_json

TOKENS = "tokens"
_REMEDY = "Copy the tokenizer again."
_PIECES = ("sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model")
FILES = frozenset(
    {
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
        "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "dict.txt", "bpe.codes", *_PIECES,
    }
)  # fmt: skip
"""The files of a tokenizer, which are copied together."""
_OPTIONS = (
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
    "add_prefix_space",
    "add_bos_token",
    "add_eos_token",
)
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer.

    Args:
        ids: token -> id.
        model: settings of its algorithm: merges, scores, unknown token ...
        steps: settings of what precedes and follows it: normalizer, pre_tokenizer, post_processor, flags of tokens.
        roles: role (`pad_token` ...) -> token.
        opaque: its sentencepiece file, if there is nothing else to read; `ids` is empty then.
    """

    ids: Mapping[str, int] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Any] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    opaque: Path | None = None


def same_tokenizer(first: Mapping[str, Path], other: Mapping[str, Path]) -> bool:
    """Whether all files of two tokenizers are equal."""
    return first.keys() == other.keys() and all(
        filecmp.cmp(first[name], other[name], shallow=False) for name in first if "chat_template" not in name
    )


def read_tokenizer(files: Mapping[str, Path]) -> Tokenizer | None:
    """Read the files of a tokenizer; None: there are none.

    Raises:
        CheckpointError: a broken file.
    """
    try:
        found = _read(files)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # JSON of a different shape, or no UTF-8
        folder = next(iter(files.values())).parent
        raise CheckpointError(
            f"{folder}: expected a tokenizer in {', '.join(sorted(files))}, found something else "
            f"({type(error).__name__}: {error}). {_REMEDY}"
        ) from error
    return found


def _read(files: Mapping[str, Path]) -> Tokenizer | None:
    options = _content(files, "tokenizer_config.json")
    roles = _roles({**_content(files, "special_tokens_map.json"), **options})
    settings = {key: options[key] for key in _OPTIONS if options.get(key) is not None}
    if "tokenizer.json" in files:
        return _from_one_file(_content(files, "tokenizer.json"), settings, roles)
    added = {str(token): number for token, number in _content(files, "added_tokens.json").items()}
    for number, token in (options.get("added_tokens_decoder") or {}).items():
        added[_text(token)] = int(number)
    if "vocab.txt" in files:
        lines = _lines(files["vocab.txt"])
        return Tokenizer(_whole({line: number for number, line in enumerate(lines)} | added), {}, settings, roles)
    if "vocab.json" in files:
        merges = _lines(files["merges.txt"]) if "merges.txt" in files else []
        merges = [line for line in merges if line and not line.startswith("#version")]
        model = {"merges": merges} if merges else {}
        return Tokenizer(_whole(_content(files, "vocab.json") | added), model, settings, roles)
    opaque = next((files[name] for name in _PIECES if name in files), None)
    return None if opaque is None else Tokenizer({}, {}, settings, roles, opaque)


def _from_one_file(content: Mapping[str, Any], settings: Mapping[str, Any], roles: Mapping[str, str]) -> Tokenizer:
    model = content.get("model") or {}
    vocabulary, added = model.get("vocab") or {}, content.get("added_tokens") or []
    rest = {key: value for key, value in model.items() if key not in ("vocab", "dropout")}
    if isinstance(vocabulary, list):  # Unigram: [piece, score]
        rest["scores"] = dict(vocabulary)
        vocabulary = {piece: number for number, (piece, _) in enumerate(vocabulary)}
    if "merges" in rest:  # as "a b" in files of earlier versions
        rest["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in rest["merges"]]
    steps = {key: content.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor")}
    flags = {token["content"]: {key: token.get(key, False) for key in _FLAGS} for token in added}
    ids = {**vocabulary, **{token["content"]: token["id"] for token in added}}
    return Tokenizer(_whole(ids), rest, {**steps, "added_tokens": flags, **settings}, roles)


def _whole(ids: dict[str, Any]) -> dict[str, int]:
    for token, number in ids.items():
        if not isinstance(number, int):
            raise TypeError(f"the id of {token!r} is {number!r}")
    return ids


def _content(files: Mapping[str, Path], name: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(files[name], dict, _REMEDY) if name in files else {}
    return found


def _lines(file: Path) -> list[str]:
    """The lines of a file; tokens may hold the other characters at which `splitlines` cuts."""
    return file.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _text(token: Any) -> str:
    return str(token.get("content")) if isinstance(token, Mapping) else str(token)


def _roles(options: Mapping[str, Any]) -> dict[str, str]:
    return {role: _text(options[role]) for role in ROLES if options.get(role) is not None}


def token_differences(first: Tokenizer, other: Tokenizer, *, is_base: bool) -> Iterator[Difference]:
    """The differences of the ids of two tokenizers, and of their algorithms.

    A base lacks the tokens that a fine-tune added or renamed, and its algorithm does not count: only tokens with
    different ids are differences.
    """
    if first.opaque is not None or other.opaque is not None:
        yield from _opaque_differences(first, other)
        return
    if found := _moved(first.ids, other.ids, with_missing=not is_base):
        yield found
    elif not is_base and (extra := other.ids.keys() - first.ids.keys()):
        yield Difference(TOKENS, "without", f"with {_examples(extra)}", harmless=True)
    if is_base:
        return
    yield from differences(first.model, other.model, "tokenizer")


def step_differences(first: Tokenizer, other: Tokenizer) -> list[Difference]:
    """The differences of what precedes and follows the algorithms; versions of a library write the same differently."""
    return list(differences(first.steps, other.steps, "tokenizer"))


def _moved(first: Mapping[str, int], other: Mapping[str, int], with_missing: bool) -> Difference | None:
    """The tokens of the first model that have another id in the other one, or none."""
    if first == other:
        return None
    wrong = [
        token for token, number in first.items() if other.get(token, number if not with_missing else None) != number
    ]
    if not wrong:
        return None
    token, more = min(wrong, key=first.__getitem__), f" (and {len(wrong) - 1} more tokens)" if len(wrong) > 1 else ""
    place = f"id {other[token]}" if token in other else "missing"
    return Difference(TOKENS, f"{shown(token)} with id {first[token]}", f"{place}{more}")


def _opaque_differences(first: Tokenizer, other: Tokenizer) -> Iterator[Difference]:
    if first.opaque is None or other.opaque is None:
        kinds = ["a sentencepiece file" if each.opaque else "tokenizer.json or a vocabulary" for each in (first, other)]
        yield Difference(TOKENS, kinds[0], f"{kinds[1]}, which cannot be compared")
    elif not filecmp.cmp(first.opaque, other.opaque, shallow=False):
        yield Difference(TOKENS, first.opaque.name, "another sentencepiece file, which is not read")


def _examples(tokens: set[str], count: int = 3) -> str:
    more = f" and {len(tokens) - count} more" if len(tokens) > count else ""
    return ", ".join(map(shown, sorted(tokens)[:count])) + more
