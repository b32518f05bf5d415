"""Small vectors against sentence-transformers' own functions and the metrics of mteb on the same vectors."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import pytrec_eval
import torch
from scipy.stats import spearmanr
from sentence_transformers import quantize_embeddings
from sentence_transformers.util import truncate_embeddings
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.evaluation import Local
from lightning_embed.evaluation.small_vectors import parse_forms, shrink
from lightning_embed.types import EvalSet, RetrievalSet, StsSet, Task

FORMS = ["int8", "binary", 16, "int8@16", "binary@8"]


class Fixed:
    """A fixed random vector of 32 numbers for every text, of uneven dimensions; then a change of all vectors, if any."""

    def __init__(self, change: Any = None) -> None:
        self.change, self.texts = change or (lambda e: e), []

    def prompt_for(self, task: Task, role: str, dataset: str) -> str:
        return ""

    def vectors(self, texts: Sequence[str]) -> Tensor:
        seeds = [sum(ord(letter) * 31**i for i, letter in enumerate(text)) % 2**31 for text in texts]
        drawn = torch.stack([torch.randn(32, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        return torch.nn.functional.normalize(drawn * torch.linspace(0.5, 2, 32) + 0.2, dim=1)

    def encode(self, texts: Sequence[str], *, prompt: Any, max_length: int | None = None) -> Tensor:
        self.texts += texts
        return self.change(self.vectors(texts))


def _retrieval() -> RetrievalSet:
    documents = {f"d{i}": {"text": f"document {i}"} for i in range(60)}
    queries = {f"q{i}": f"question {i}" for i in range(20)}
    return RetrievalSet(
        documents, queries, {f"q{i}": {f"d{i}": 2, f"d{i + 20}": 1, f"d{i + 40}": 1} for i in range(20)}
    )


def _pairs() -> StsSet:
    return StsSet(
        [f"left {i}" for i in range(40)], [f"right {i}" for i in range(40)], [float(i % 7) for i in range(40)]
    )


def _direct(e: np.ndarray, documents: np.ndarray, word: str) -> np.ndarray:
    """What sentence-transformers makes of them."""
    precision, _, dim = word.partition("@") if not word.isdigit() else ("float32", "", word)
    if dim:
        e, documents = (truncate_embeddings(each, int(dim)) for each in (e, documents))
        e, documents = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (e, documents))
    if precision == "int8":
        return quantize_embeddings(e, "int8", calibration_embeddings=documents).astype(np.float64)
    return np.unpackbits(quantize_embeddings(e, "ubinary"), axis=1) if precision == "binary" else e


def _similarities(a: np.ndarray, b: np.ndarray, word: str) -> np.ndarray:
    """Cosines; of bits, the Hamming distance, negative."""
    if "binary" in word:
        return -(a[:, None] != b[None]).sum(-1).astype(float)
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


@pytest.mark.parametrize("word", [str(form) for form in FORMS])
def test_retrieval_equals_a_direct_computation(word: str) -> None:
    """Ranges of int8 are those of the documents; of equal Hamming distances the score lies between the best and the worst order."""
    content, encoder = _retrieval(), Fixed()
    queries, documents = list(content.queries), list(content.corpus)
    q = encoder.vectors(list(content.queries.values())).numpy()
    d = encoder.vectors([each["text"] for each in content.corpus.values()]).numpy()
    found = _similarities(_direct(q, d, word), _direct(d, d, word), word)
    score = Local(small_vectors=FORMS)(encoder, [EvalSet("s", Task.retrieval, "test", True, content)])["test"]["s"]
    by_tie = []
    for shift in (0.1, -0.1) if "binary" in word else (0, 0):  # relevant documents first, or last, among equals
        run = {
            query: {
                doc: float(found[i, j] + shift * content.qrels[query].get(doc, 0)) for j, doc in enumerate(documents)
            }
            for i, query in enumerate(queries)
        }
        scores = pytrec_eval.RelevanceEvaluator(content.qrels, {"ndcg_cut.10"}).evaluate(run)
        by_tie.append(100 * np.mean([each["ndcg_cut_10"] for each in scores.values()]))
    assert by_tie[1] - 2e-3 <= score["small"][word] <= by_tie[0] + 2e-3  # mteb rounds
    assert score["score"] != score["small"][word]


@pytest.mark.parametrize("word", [str(form) for form in FORMS])
def test_sts_equals_a_direct_computation(word: str) -> None:
    """Pairs have no documents: ranges of int8 are those of all texts."""
    content, encoder = _pairs(), Fixed()
    a, b = (encoder.vectors(texts).numpy() for texts in (content.text1, content.text2))
    x, y = (_direct(each, np.concatenate([a, b]), word) for each in (a, b))
    expected = 100 * spearmanr(np.diag(_similarities(x, y, word)).round(9), content.score)[0]
    score = Local(small_vectors=FORMS)(encoder, [EvalSet("s", Task.sts, "test", True, content)])["test"]["s"]
    tolerance = 0.5 if "binary" in word else 1e-4  # equal distances may differ in the last bit of their cosine
    assert score["small"][word] == pytest.approx(expected, abs=tolerance)


def test_all_tasks_equal_an_encoder_of_these_vectors(eval_sets: list[EvalSet]) -> None:
    """Each text is encoded once, in the same calls."""
    (form,) = parse_forms(["binary@16"])
    none = np.zeros((1, 32), dtype=np.float32)
    tests = [each for each in eval_sets if each.split == "test"]
    once, small = Fixed(), Fixed(lambda e: torch.from_numpy(shrink(e.numpy(), form, none)))
    ours, direct = Local(small_vectors=["binary@16"])(once, tests)["test"], Local()(small, tests)["test"]
    assert {name: score["small"] for name, score in ours.items()} == {
        name: {"binary@16": score["score"]} for name, score in direct.items()
    }
    assert once.texts == small.texts


def test_forms_as_long_as_the_embedding_and_undefined_scores(angles: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Angles have two dimensions, and here all the same signs: every binary vector is the same."""
    degrees = {"a": 10, "b": 30, "c": 80, "d": 15}
    content = StsSet(["a", "a", "b"], ["b", "c", "d"], [3.0, 1.0, 2.0])
    with caplog.at_level(logging.WARNING):
        score = Local(small_vectors=["int8", "binary", 2, "int8@32"])(
            angles(degrees), [EvalSet("s", Task.sts, "test", True, content)]
        )["test"]["s"]
    assert list(score["small"]) == ["int8"]
    assert "binary vectors have no score" in caplog.text


def test_what_lies_outside_of_the_ranges_has_the_last_code() -> None:
    (form,) = parse_forms(["int8"])
    documents = np.array([[-1.0, 0.0], [1.0, 0.5]], dtype=np.float32)
    made = shrink(np.array([[2.0, -1.0]], dtype=np.float32), form, documents)
    np.testing.assert_allclose(made, np.array([[127, -128]]) / np.hypot(127, 128), rtol=1e-6)


@pytest.mark.parametrize("word", ["int4", "float32", "0", "int8@0", "int8@", "-5", "256@int8", "1.5"])
def test_refusals(word: str) -> None:
    with pytest.raises(ConfigError, match=r"small_vectors: expected int8, binary, a number of dimensions, or both"):
        Local(small_vectors=[word])
