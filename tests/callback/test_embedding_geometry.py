"""Geometry: equals numpy, known matrices, the numbers stand in the log."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_embed.callback import EmbeddingGeometry
from lightning_embed.callback.embedding_geometry import (
    alignment,
    choose_pairs,
    geometry,
    mean_token_geometry,
    token_geometry,
    uniformity,
)
from lightning_embed.errors import ConfigError
from tests.callback.toy import fit, logged, toy_training
from tests.reference import diagnostics as reference
from tests.toy import write_toy

# Lightning warns of few workers, of the logging interval and of itself.
pytestmark = pytest.mark.filterwarnings("ignore")

MEASURES = {"alignment", "uniformity", "token_similarity", "rank", "svd_entropy", "condition_number"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


def _unit(seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(7, 5))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_alignment_and_uniformity_equal_loops() -> None:
    x, y = _unit(0), _unit(1)
    assert alignment(torch.tensor(x), torch.tensor(y)) == pytest.approx(reference.alignment(x, y), rel=1e-12)
    assert uniformity(torch.tensor(x)) == pytest.approx(reference.uniformity(x), rel=1e-12)


@pytest.mark.parametrize("shape", [(9, 6), (4, 6), (6, 6)])
@pytest.mark.parametrize("rank", [2, 6])
def test_token_geometry_equals_numpy(shape: tuple[int, int], rank: int) -> None:
    draw = np.random.default_rng(2)
    states = draw.normal(size=(shape[0], rank)) @ draw.normal(size=(rank, shape[1]))
    assert token_geometry(torch.tensor(states)) == pytest.approx(reference.token_geometry(states), rel=1e-9)


@pytest.mark.parametrize("tokens", [2, 5, 8])
def test_orthonormal_tokens(tokens: int) -> None:
    states = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    assert token_geometry(states[:tokens]) == pytest.approx(
        {"token_similarity": 0, "rank": tokens, "svd_entropy": math.log(tokens), "condition_number": 1}, abs=1e-12
    )


def test_equal_tokens() -> None:
    """The collapse that over-smoothing leads to, in float32."""
    assert token_geometry(torch.randn(1, 16).expand(6, 16)) == pytest.approx(
        {"token_similarity": 1, "rank": 1, "svd_entropy": 0, "condition_number": 1}, abs=1e-5
    )


def test_limits_of_alignment_and_uniformity() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert alignment(x, x) == 0
    assert alignment(x, -x) == pytest.approx(4)
    assert uniformity(x) == pytest.approx(-8)
    assert uniformity(x[[0, 0]]) == pytest.approx(0)


def test_a_text_of_one_token_has_no_similarity() -> None:
    one, two = torch.ones(1, 4), torch.eye(4)[:2]
    assert mean_token_geometry([one, two]) == pytest.approx(
        {"token_similarity": 0, "rank": 1.5, "svd_entropy": math.log(2) / 2, "condition_number": 1}, abs=1e-6
    )


def test_logged_with_every_validation(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    module, data = toy_training(tiny_model, toy)
    callback = EmbeddingGeometry(num_texts=6)
    fit(module, data, tmp_path, callback)
    found = logged(tmp_path, "geometry/")
    assert set(found) == {2, 4}
    assert set(found[4]) == {f"geometry/{measure}/{name}" for measure in MEASURES for name in callback._pairs}
    now = geometry(module.encoder, callback._pairs["pairs"])
    assert {measure: found[4][f"geometry/{measure}/pairs"] for measure in MEASURES} == pytest.approx(now)


def test_every_n_steps(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    fit(*toy_training(tiny_model, toy, "pairs"), tmp_path, EmbeddingGeometry(every_n_steps=2, num_texts=4))
    assert set(logged(tmp_path, "geometry/")) == {0, 2}


def test_pairs_are_positive_and_have_no_text_in_common(tiny_model: Path, toy: Path) -> None:
    _, data = toy_training(tiny_model, toy)
    chosen = dict(choose_pairs(data, 1000))
    dev = {name: [rows.group(row, 0) for row in range(len(rows))] for name, rows in data.dev_rows.items()}
    expected = {(g.query, g.positives[0]) for g in dev["scores"] if g.score >= 0.8}
    assert len(expected) > 1
    assert set(zip(chosen["scores"].queries, chosen["scores"].positives, strict=True)) == expected
    texts = [*chosen["pairs"].queries, *chosen["pairs"].positives]
    assert len(set(texts)) == len(texts) == 16


def test_a_dataset_without_positives_is_announced(
    tiny_model: Path, toy: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, data = toy_training(tiny_model, toy, "scores")
    monkeypatch.setattr("lightning_embed.callback.embedding_geometry.POSITIVE_SCORE", 1.1)
    with caplog.at_level(logging.WARNING):
        assert dict(choose_pairs(data, 32)) == {}
    assert "scores has no two positive pairs" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"), [({"num_texts": 3}, "got 3 and None"), ({"every_n_steps": 0}, "got 64 and 0")]
)
def test_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EmbeddingGeometry(**options)
