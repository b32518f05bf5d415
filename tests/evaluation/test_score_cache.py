"""Scores are remembered by what they depend on: weights, tests, evaluator, prompts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_embed.evaluation import Evaluator, Part, ScoreCache
from lightning_embed.types import EvalSet, Score, StsSet, Task


class Model:
    """An encoder in name only."""

    def prompt_for(self, task: Task, role: str, dataset: str) -> str:
        return ""

    def encode(self, texts: Sequence[str], *, prompt: Any, max_length: int | None = None) -> torch.Tensor:
        return torch.zeros(len(texts), 1)


@dataclass(frozen=True)
class Load:
    prompt: str

    def __call__(self, path: Path) -> Model:
        return Model()


@dataclass(frozen=True)
class Counting(Evaluator):
    """Gives each measurement its number."""

    option: int = 0
    calls: list[str] = field(default_factory=list, repr=False)

    def validate(self) -> None: ...

    def parts(self, eval_sets: Sequence[EvalSet]) -> list[Part]:
        return [
            Part(e.split, str(e.task), e.name, repr((self.option, e)), partial(self._run, e.name)) for e in eval_sets
        ]

    def _run(self, name: str, encoder: object) -> Score:
        self.calls.append(name)
        return {"task": "sts", "metric": "m", "score": float(len(self.calls)), "in_domain": True}


def _set(name: str, text: str = "b") -> EvalSet:
    return EvalSet(name, Task.sts, "test", True, StsSet(["a"], [text], [1.0]))


def test_measured_once_and_again_when_anything_changes(tmp_path: Path) -> None:
    model, calls = tmp_path / "model", []
    model.mkdir()
    (model / "weights").write_bytes(b"1")

    def score(option: int = 0, text: str = "b", prompt: str = "") -> float:
        cache = ScoreCache(Counting(option, calls), [_set("t", text)], tmp_path / "scores", Load(prompt))
        return cache(model)["test"]["t"]["score"]

    assert (score(), score()) == (1, 1)
    assert [score(option=1), score(text="c"), score(prompt="query: ")] == [2, 3, 4]
    (model / "weights").write_bytes(b"2")
    assert (score(), score()) == (5, 5)


def test_another_test_measures_that_alone(tmp_path: Path) -> None:
    model, calls = tmp_path / "model", []
    model.mkdir()
    for names in (["a"], ["a", "b"], ["b", "c"]):
        ScoreCache(Counting(0, calls), [_set(name) for name in names], tmp_path / "scores", Load(""))(model)
    assert calls == ["a", "b", "c"]


def test_an_ensemble_is_remembered_by_the_contents_of_all_in_any_order(tmp_path: Path) -> None:
    calls: list[str] = []
    for name, content in (("one", b"1"), ("other", b"2"), ("third", b"3")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(content)
    one, other, third = (tmp_path / name for name in ("one", "other", "third"))
    cache = ScoreCache(Counting(0, calls), [_set("t")], tmp_path / "scores", Load(""))

    def score(*models: Path) -> float:
        return cache(*models)["test"]["t"]["score"]

    assert [score(one), score(one, other), score(other, one), score(one, third)] == [1, 2, 2, 3]
    (other / "weights").write_bytes(b"4")
    assert [score(one, other), score(one)] == [4, 1]


BROKEN = {
    "nothing": "", "half": '{"task": "sts", "met', "another shape": "[]", "without its score": '{"task": "sts"}',
    "a text as score": '{"task": "sts", "metric": "m", "score": "1", "in_domain": true}',
    "no number": '{"task": "sts", "metric": "m", "score": NaN, "in_domain": true}',
    "no metric": '{"task": "sts", "metric": null, "score": 1.0, "in_domain": true}', "zeros": "\0" * 100,
    "a list of texts": '{"task": "sts", "metric": "m", "score": 1.0, "in_domain": true, "each": ["a"]}',
}  # fmt: skip


@pytest.mark.parametrize("kind", [*BROKEN, "not UTF-8", "a folder"])
def test_a_broken_score_is_measured_again(kind: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    calls: list[str] = []

    def score() -> float:
        cache = ScoreCache(Counting(0, calls), [_set("t")], tmp_path / "scores", Load(""))
        return cache(tmp_path / "model")["test"]["t"]["score"]

    assert (score(), score()) == (1, 1)
    (file,) = (tmp_path / "scores").iterdir()
    match kind:
        case "a folder":
            file.unlink()
            (file / "deep").mkdir(parents=True)
        case "not UTF-8":
            file.write_bytes(b"\xff\xfe")
        case _:
            file.write_text(BROKEN[kind])
    assert (score(), score()) == (2, 2)
