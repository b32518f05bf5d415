"""Small datasets on disk, and a tokenizer of words."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lightning_embed.types import Task, Tokens


class Words:
    """A tokenizer that numbers words; it notes every text that it is given."""

    def __init__(self) -> None:
        self.vocabulary: dict[str, int] = {}
        self.seen: list[str] = []

    def __call__(
        self,
        texts: Sequence[str],
        prompt: str | Sequence[str] = "",
        max_length: int | Sequence[int | None] | None = None,
    ) -> Tokens:
        prompts = [prompt] * len(texts) if isinstance(prompt, str) else prompt
        limits = max_length if isinstance(max_length, Sequence) else [max_length] * len(texts)
        self.seen += [before + text for before, text in zip(prompts, texts, strict=True)]
        return Tokens.of(
            [
                [self.vocabulary.setdefault(w, len(self.vocabulary)) for w in (before + text).split()][:limit]
                for before, text, limit in zip(prompts, texts, limits, strict=True)
            ]
        )


class WordEncoder:
    """What the data room asks of an encoder."""

    def __init__(self) -> None:
        self.tokenizer = Words()

    def prompt_for(self, task: Task, role: str, dataset: str) -> str:
        return f"{role}: " if task is Task.retrieval else ""


@pytest.fixture
def encoder() -> WordEncoder:
    return WordEncoder()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Iterable[Mapping[str, Any]]], Path]:
    """Write records as a jsonl file."""

    def write_jsonl(name: str, records: Iterable[Mapping[str, Any]]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return path

    return write_jsonl
