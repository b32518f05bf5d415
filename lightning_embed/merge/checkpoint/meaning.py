"""Comparison of models whose tensors have the same names and shapes: do these mean the same in both?

A vocabulary in another order, another number of heads, another activation: the tensors fit, and their average is
nothing. Such models are refused by the name of the setting; settings without an effect on embeddings are listed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning_embed.errors import CheckpointMismatch
from lightning_embed.merge.checkpoint.companions import Companions, companions
from lightning_embed.merge.checkpoint.config_keys import config_differences, excused_for_base, is_origin
from lightning_embed.merge.checkpoint.difference import Difference
from lightning_embed.merge.checkpoint.pooling import Chain, chain_differences, read_chain
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.checkpoint.sample_texts import SAMPLE_TEXTS
from lightning_embed.merge.checkpoint.tokens import (
    FILES,
    TOKENS,
    Tokenizer,
    read_tokenizer,
    same_tokenizer,
    step_differences,
    token_differences,
)
from lightning_embed.merge.checkpoint.vocabulary import vocabulary_entries
from lightning_embed.merge.checkpoint.weight_files import CONFIG_FILE
from lightning_embed.merge.opener import Opener
from lightning_embed.storage.json_file import read_json

_SHOWN = 4
_ADDED_TOKENS = 50  # of each tokenizer, in the sample texts


@dataclass(frozen=True)
class Meaning:
    """The files of a model that say what its tensors mean; each is read when it is needed."""

    model: ModelDirectory
    opener: Opener | None

    @cached_property
    def files(self) -> Companions:
        """Its files beside the weights."""
        return companions(self.model)

    @property
    def config_file(self) -> Path | None:
        """Its config.json."""
        return self.files.body.get(CONFIG_FILE)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of its config.json; empty without the file."""
        found: dict[str, Any] = read_json(self.config_file, dict, "Copy the model again.") if self.config_file else {}
        return found

    @cached_property
    def filled_config(self) -> Mapping[str, Any]:
        """The same with the defaults of its class, as far as they are known."""
        if self.opener is None or self.config_file is None:
            return self.config
        return self.opener.config(self.config_file.parent)

    @cached_property
    def tokenizer_files(self) -> dict[str, Path]:
        """The files of its tokenizer."""
        return {name: file for name, file in self.files.body.items() if name in FILES}

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """Its tokenizer."""
        return read_tokenizer(self.tokenizer_files)

    @cached_property
    def chain(self) -> Chain:
        """Its modules behind the body."""
        return read_chain(self.model.layout, self.files.modules)

    def token_texts(self, texts: Sequence[str]) -> list[list[str]] | None:
        """The tokens of texts, as the library cuts them; None if that is not known."""
        folder = next((file.parent for file in self.tokenizer_files.values()), None)
        if self.opener is None or folder is None or self.tokenizer is None:
            return None
        ids = self.opener.token_ids(folder, texts)
        names = {number: token for token, number in self.tokenizer.ids.items()}
        return None if ids is None else [[names.get(number, str(number)) for number in each] for each in ids]


def compare(
    models: Sequence[ModelDirectory],
    num_sources: int,
    allow: Sequence[str],
    opener: Opener | None,
    *,
    remapped: bool = False,
    refuse: bool = True,
) -> list[ModelDirectory]:
    """Compare each model with the first one; the models with their harmless differences among their notes.

    Args:
        models: the sources, then the base if there is one.
        num_sources: number of sources.
        allow: keys whose differences are harmless because the user says so.
        opener: gives the defaults of absent keys, and tokenizes; without it, an absent key is no difference.
        remapped: whether the rows of the vocabularies have been brought into one order.
        refuse: whether functional differences are an error; else they are notes as well.

    Raises:
        CheckpointMismatch: a functional difference.
        CheckpointError: a broken file.
    """
    first, used = Meaning(models[0], opener), set[str]()
    noted = [models[0]]
    for number, model in enumerate(models[1:], 1):
        other, is_base = Meaning(model, opener), number >= num_sources
        found = list(_differences(first, other, is_base=is_base, remapped=remapped))
        used |= {entry for entry in allow for each in found if not each.harmless and each.allowed_by(entry)}
        wrong = [each for each in found if not each.harmless and not any(map(each.allowed_by, allow))]
        if wrong and refuse:
            raise CheckpointMismatch(_message(first.model.name, model.name, wrong))
        noted.append(replace(model, notes=(*model.notes, *_notes(models[0].name, found, wrong, is_base))))
    unused = [f"merge.allow={entry} allows nothing here." for entry in allow if entry not in used]
    noted[0] = replace(noted[0], notes=(*noted[0].notes, *unused))
    return noted


def _differences(first: Meaning, other: Meaning, *, is_base: bool, remapped: bool) -> Iterator[Difference]:
    for each in (*_of_configs(first, other), *chain_differences(first.chain, other.chain)):
        if remapped and each.harmless and vocabulary_entries({each.key: None}):
            continue
        excused = is_base and (excused_for_base(each) or each.key.startswith(("pooling", "modules", "do_lower_case")))
        yield replace(each, harmless=each.harmless or excused)
    for each in () if remapped else _of_tokenizers(first, other, is_base):
        yield each


def _of_configs(first: Meaning, other: Meaning) -> Iterable[Difference]:
    if first.config_file is None or other.config_file is None:
        return []
    if first.config_file.read_bytes() == other.config_file.read_bytes():
        return []
    return config_differences(first.config, other.config, lambda: (first.filled_config, other.filled_config))


def _of_tokenizers(first: Meaning, other: Meaning, is_base: bool) -> Iterator[Difference]:
    if same_tokenizer(first.tokenizer_files, other.tokenizer_files):
        return
    if first.tokenizer is None or other.tokenizer is None:
        return
    yield from token_differences(first.tokenizer, other.tokenizer, is_base=is_base)
    if is_base:
        return
    steps = step_differences(first.tokenizer, other.tokenizer)
    harmless = bool(steps) and _same_tokens(first, other)
    yield from (replace(each, harmless=harmless) for each in steps)


def _same_tokens(first: Meaning, other: Meaning) -> bool:
    """Whether two tokenizers cut the sample texts, and texts with their added tokens, into the same tokens.

    transformers 5 writes the tokenizers of several families in other words than transformers 4 did (XLM-RoBERTa, T5,
    MPNet, DeBERTa), and reads both in the same way.
    """
    added = {
        token: None
        for each in (first, other)
        if each.tokenizer is not None
        for token in list(each.tokenizer.steps.get("added_tokens", {}))[:_ADDED_TOKENS]
    }
    texts = [*SAMPLE_TEXTS, *(f"the {token} a{token}B" for token in added)]
    ours = first.token_texts(texts)
    return ours is not None and ours == other.token_texts(texts)


def _message(first: str, other: str, wrong: Sequence[Difference]) -> str:
    keys = list(dict.fromkeys(_allowed_key(each.key) for each in wrong))
    shown = [f"{each.key}: {each.first} in {first!r}, {each.other} in {other!r}" for each in wrong[:_SHOWN]]
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    rows = "vocabulary=first (or base) brings the rows of tokens into one order, and " if TOKENS in keys else ""
    return (
        f"The tensors of {first!r} and {other!r} have equal shapes and different meanings: {'; '.join(shown)}{more}. "
        f"Merge models that agree; {rows}'merge.allow=[{','.join(keys)}]' merges them as they are."
    )


def _allowed_key(key: str) -> str:
    """The key to allow: for a single merge or score, all of them."""
    return ".".join(key.split(".")[:2]) if key.startswith("tokenizer.") else key


def _notes(first: str, found: Sequence[Difference], wrong: Sequence[Difference], is_base: bool) -> Iterator[str]:
    """A line for all harmless differences of a source, and one for those that a merge refuses or that were allowed."""
    harmless = [each for each in found if each.harmless and not is_origin(each.key) and not is_base]
    allowed = [each for each in found if not each.harmless and each not in wrong]
    for what, each in (
        ("without effect on the merged model", harmless),
        ("allowed", allowed),
        ("a merge refuses this", wrong),
    ):
        if each:
            listed = "; ".join(f"{one.key}: {one.other} ({first}: {one.first})" for one in each[:_SHOWN])
            more = f"; and {len(each) - _SHOWN} more" if len(each) > _SHOWN else ""
            yield f"{listed}{more}; {what}."
