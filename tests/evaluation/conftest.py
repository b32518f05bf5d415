"""An encoder whose scores can be computed by hand, the real one, and a set of each task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.evaluation import Local
from lightning_embed.types import EvalSet, LabelSet, Results, RetrievalSet, StsSet, Task


class Angles:
    """Embeds a text as a unit vector at a given angle (degrees); notes the prompts that it is asked for."""

    def __init__(self, degrees: Mapping[str, float]) -> None:
        self.degrees, self.seen = degrees, []

    def prompt_for(self, task: Task, role: str, dataset: str) -> str:
        return f"{dataset} {task} {role}"

    def encode(self, texts: Sequence[str], *, prompt: Any, max_length: int | None = None) -> Tensor:
        self.seen.append(prompt)
        radians = torch.tensor([self.degrees[text] for text in texts]).deg2rad()
        return torch.stack([radians.cos(), radians.sin()], dim=1)


@pytest.fixture(scope="session")
def angles() -> type[Angles]:
    return Angles


@pytest.fixture(scope="session")
def encoder(tiny_model: Path) -> Encoder:
    """The real encoder, with prompts of every kind that mteb knows of."""
    prompts = {"query": "a cat: ", "document": "the road ", "sts": "red ", "classification": "blue dog "}
    return Encoder(EncoderOptions(str(tiny_model), prompts=prompts))


@pytest.fixture(scope="session")
def eval_sets() -> list[EvalSet]:
    """One test set of each task, of words that the tiny tokenizer knows, and a dev set of one."""
    nouns = ["cat", "dog", "bird", "house", "river", "road", "city", "king", "queen"]
    corpus = {f"d{i}": {"title": "the" if i % 2 else "", "text": f"a {noun} runs near"} for i, noun in enumerate(nouns)}
    queries = {f"q{i}": f"{noun} sees" for i, noun in enumerate(nouns)}
    qrels = {f"q{i}": {f"d{i}": 2, f"d{(i + 1) % 9}": 1, f"d{(i + 2) % 9}": 0} for i in range(9)}
    pairs = StsSet([f"the {a}" for a in nouns], [f"big {b}" for b in reversed(nouns)], [0.5 * i for i in range(9)])
    texts = [f"{size} {noun}" for noun in nouns for size in ("old", "small", "red", "green")]
    labels = [noun if noun in ("cat", "dog") else "other" for noun in nouns for _ in range(4)]
    groups = LabelSet(texts[::2], labels[::2], texts[1::2], labels[1::2])
    retrieval = RetrievalSet(corpus, queries, qrels)
    return [
        EvalSet("nouns", Task.retrieval, "test", True, retrieval),
        EvalSet("nouns", Task.retrieval, "dev", True, retrieval),
        EvalSet("pairs", Task.sts, "test", False, pairs),
        EvalSet("sizes", Task.classification, "test", True, groups),
        EvalSet("groups", Task.clustering, "test", False, groups),
    ]


@pytest.fixture(scope="session")
def measured(encoder: Encoder, eval_sets: list[EvalSet]) -> Results:
    """The scores of the real encoder on all sets."""
    return Local()(encoder, eval_sets)
