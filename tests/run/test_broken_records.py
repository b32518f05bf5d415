"""What a run keeps for itself: choices, measurements, landscapes and commits of the hub, cut or of a wrong shape."""

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_embed.callback.evaluate import CHOICE, read_choice
from lightning_embed.errors import CheckpointError, DataError
from lightning_embed.report.figures.landscape import LANDSCAPES, read_landscapes
from lightning_embed.report.scores import results_file
from lightning_embed.run.dataset_affinity import kept_results
from lightning_embed.storage import hub
from tests.report.test_landscape import landscape

CHOSEN = {"metric": "dev/mean", "score": 71.5, "best_step": 20, "exported_step": 20, "last_step": 60}
NOT_JSON = ["", "{", "null", "[]", "3", "\0\0", '"text"']


@pytest.mark.parametrize(
    "text",
    [*NOT_JSON, *(json.dumps({**CHOSEN, key: value}) for key, value in [
        ("last_step", None), ("last_step", "60"), ("last_step", 1.5), ("score", "high"), ("metric", 3), ("best_step", [])
    ]), *(json.dumps({k: v for k, v in CHOSEN.items() if k != key}) for key in CHOSEN)],
)  # fmt: skip
def test_a_choice_is_refused_with_its_remedy(text: str, tmp_path: Path) -> None:
    assert read_choice(tmp_path) is None
    (tmp_path / CHOICE).write_text(text)
    with pytest.raises(CheckpointError, match=rf"choice\.json: .* Delete it and .*{tmp_path.name} again\.$") as refused:
        read_choice(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_whole_choice(tmp_path: Path) -> None:
    (tmp_path / CHOICE).write_text(json.dumps(CHOSEN))
    assert read_choice(tmp_path) == CHOSEN


EMBEDDINGS = {"a": [1.0, 2.0], "b": [3.0, 4.0]}
LOSSES = {name: {"a": 1.0, "b": 2.0} for name in ("joint", "a", "b")}


@pytest.mark.parametrize(
    ("kept", "whole"),
    [
        ({"embeddings": EMBEDDINGS, "losses": LOSSES}, {"embeddings", "losses"}),
        ({"embeddings": {"a": [1.0]}, "losses": LOSSES}, {"losses"}),
        ({"embeddings": {**EMBEDDINGS, "b": [1.0]}}, set()),
        ({"embeddings": {**EMBEDDINGS, "c": [1.0, 2.0]}}, set()),
        ({"embeddings": {"a": "words", "b": []}}, set()),
        ({"embeddings": [1.0]}, set()),
        ({"losses": {"joint": {"a": 1.0, "b": 2.0}}}, set()),
        ({"losses": {**LOSSES, "joint": {"a": 1.0}}}, set()),
        ({"losses": {**LOSSES, "joint": 3}, "embeddings": EMBEDDINGS}, set()),
        ({"later": 1, "embeddings": EMBEDDINGS}, {"embeddings"}),
    ],
)
def test_measurements_of_other_datasets_are_made_again(kept: Any, whole: set[str], tmp_path: Path) -> None:
    file = tmp_path / "measure.json"
    file.write_text(json.dumps(kept))
    assert set(kept_results(file, {"a", "b"})) == whole


@pytest.mark.parametrize("text", [*NOT_JSON, '{"embeddings": {"a": [NaN, 1], "b": [1, 2]}}'])
def test_measurements_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "measure.json").write_text(text)
    assert kept_results(tmp_path / "measure.json", {"a", "b"}) == {}
    assert kept_results(tmp_path / "none.json", {"a", "b"}) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [("walks", {}), ("walks", [1]), ("walks", [{"start": "a"}]), ("plane", []), ("plane", {"sources": ["a"]}), ("batches", None),
     ("findings", "words"), ("findings", [1]), ("sources", [1]), ("base", "base"), (None, "[]"), (None, "{"), (None, "")],
)  # fmt: skip
def test_a_broken_landscape_is_none(key: str | None, value: Any, tmp_path: Path) -> None:
    (tmp_path / LANDSCAPES).mkdir()
    whole, broken = (tmp_path / LANDSCAPES / name for name in ("a.json", "b.json"))
    whole.write_text(json.dumps(landscape()))
    broken.write_text(value if key is None else json.dumps({**landscape(), key: value}))
    assert read_landscapes(tmp_path) == [landscape()]


SCORE = {"task": "sts", "metric": "m", "score": 1.0, "in_domain": True}
RESULTS = {"models": {"base": {"test": {"a": SCORE}}}, "evaluations": {"base": "1"}, "costs": {"base": 0}}


@pytest.mark.parametrize(
    "text",
    [*NOT_JSON, "{}", *(json.dumps({**RESULTS, key: value}) for key, value in [
        ("models", []), ("models", {"base": []}), ("models", {"base": {"test": {"a": 3}}}), ("models", {"base": {"test": {"a": {}}}}),
        ("models", {"base": {"test": {"a": {**SCORE, "score": "1"}}}}), ("models", {"base": {"test": {"a": {**SCORE, "score": None}}}}),
        ("models", {"base": {"test": {"a": {**SCORE, "task": None}}}}), ("models", {"base": {"test": {"a": {**SCORE, "more": [1]}}}}),
        ("evaluations", {}), ("evaluations", []), ("evaluations", {"base": 1}), ("costs", []), ("costs", {"base": "0"}),
    ])],
)  # fmt: skip
def test_results_are_refused_with_their_remedy(text: str, tmp_path: Path) -> None:
    (tmp_path / results_file.FILE).write_text(json.dumps(RESULTS))
    assert results_file.read(tmp_path) == RESULTS
    (tmp_path / results_file.FILE).write_text(text)
    with pytest.raises(DataError, match=r"results\.json: .* Delete it: the models are measured again\.$") as refused:
        results_file.read(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", [*NOT_JSON, '{"test": []}', '{"test": {"a": {"score": "1"}}}'])
def test_scores_of_single_queries_are_not_known_then(text: str, tmp_path: Path) -> None:
    (tmp_path / results_file.EACH).mkdir()
    (tmp_path / results_file.EACH / "base.json").write_text(text)
    assert results_file.read_each(tmp_path, "base") == {}


@pytest.mark.parametrize(
    "content", [b"", b"main", b"\xff", b"a" * 39, b"A" * 40, b"g" * 40, b"a" * 41, b"<html>", b"[]"]
)
def test_a_broken_memo_of_the_hub_is_not_believed(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "CACHE", tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for file in (tmp_path / "commits/models--a--b/main", tmp_path / "hub/models--a--b/refs/main"):
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    assert hub.commit.__wrapped__("a/b", None, "model") is None
    (tmp_path / "hub/models--a--b/refs/main").write_text("b" * 40)
    assert hub.commit.__wrapped__("a/b", None, "model") == "b" * 40
