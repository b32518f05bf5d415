"""Scores are remembered by what they depend on: weights, tests, evaluator, prompts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lightning_embed.evaluation import ScoreCache
from lightning_embed.types import EvalSet, Results, StsSet, Task


class Model:
    """An encoder in name only."""

    def prompt_for(self, task: Task, role: str, dataset: str) -> str:
        return ""

    def encode(self, texts: Sequence[str], *, prompt: str | None) -> torch.Tensor:
        return torch.zeros(len(texts), 1)


@dataclass(frozen=True)
class Load:
    prompt: str

    def __call__(self, path: Path) -> Model:
        return Model()


@dataclass(frozen=True)
class Counting:
    """Gives each measurement its number."""

    option: int = 0
    calls: list[int] = field(default_factory=list, repr=False)

    def check(self) -> None: ...

    def __call__(self, encoder: object, eval_sets: Sequence[EvalSet]) -> Results:
        self.calls.append(1)
        return {"test": {"t": {"task": "sts", "metric": "m", "score": float(len(self.calls)), "in_domain": True}}}


def test_measured_once_and_again_when_anything_changes(tmp_path: Path) -> None:
    model, calls = tmp_path / "model", []
    model.mkdir()
    (model / "weights").write_bytes(b"1")
    tests = [EvalSet("t", Task.sts, "test", True, StsSet(["a"], ["b"], [1.0]))]
    others = [EvalSet("t", Task.sts, "test", True, StsSet(["a"], ["c"], [1.0]))]

    def score(option: int = 0, sets: Sequence[EvalSet] = tests, prompt: str = "") -> float:
        cache = ScoreCache(Counting(option, calls), sets, tmp_path / "scores", Load(prompt))
        return cache(model)["test"]["t"]["score"]

    assert (score(), score()) == (1, 1)
    assert [score(option=1), score(sets=others), score(prompt="query: ")] == [2, 3, 4]
    (model / "weights").write_bytes(b"2")
    assert (score(), score()) == (5, 5)


def test_an_ensemble_is_remembered_by_the_contents_of_all_in_any_order(tmp_path: Path) -> None:
    calls: list[int] = []
    for name, content in (("one", b"1"), ("other", b"2"), ("third", b"3")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(content)
    one, other, third = (tmp_path / name for name in ("one", "other", "third"))
    cache = ScoreCache(Counting(0, calls), [], tmp_path / "scores", Load(""))

    def score(*models: Path) -> float:
        return cache(*models)["test"]["t"]["score"]

    assert [score(one), score(one, other), score(other, one), score(one, third)] == [1, 2, 2, 3]
    (other / "weights").write_bytes(b"4")
    assert [score(one, other), score(one)] == [4, 1]
