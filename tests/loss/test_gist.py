"""GIST against loops and sentence-transformers, its limits and refusals."""

from dataclasses import replace

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss
from torch.nn.functional import normalize

from lightning_embed.errors import ConfigError
from lightning_embed.loss.gist import Gist, MarginOf
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.types import Embeddings, LossInput, Task
from tests.loss.conftest import PER_ROW
from tests.loss.equal import assert_equal
from tests.reference import wrappers as reference


@pytest.fixture
def batch(loss_input: LossInput) -> LossInput:
    guide = torch.randn(17, 6, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    return replace(loss_input, teacher=normalize(guide, dim=1), score=None)


@pytest.mark.parametrize("margin_of", list(MarginOf))
@pytest.mark.parametrize("margin", [0.0, 0.3])
@pytest.mark.parametrize(("queries", "positives"), [(True, True), (False, False), (True, False)])
def test_reference(batch: LossInput, margin: float, margin_of: MarginOf, queries: bool, positives: bool) -> None:
    loss = Gist(0.3, margin, margin_of, contrast_queries=queries, contrast_positives=positives)
    theirs = reference.gist(
        list(batch.embeddings.final), list(batch.teacher), batch.hashes.tolist(), batch.query.tolist(),
        batch.positives.tolist(), batch.negatives.tolist(), 0.3, margin, margin_of == MarginOf.relative, queries, positives,
    )  # fmt: skip
    assert_equal(loss(batch).value, theirs, batch)


class _Peer(GISTEmbedLoss):
    """Theirs on given embeddings: it takes models, whose place two tables have."""

    def __init__(self, **options: object) -> None:
        torch.nn.Module.__init__(self)
        self.similarity_fct = torch.nn.CosineSimilarity(dim=-1)
        self.cross_entropy_loss = torch.nn.CrossEntropyLoss()
        self.must_retokenize = self.gather_across_devices = False
        self.model, self.guide = "model", "guide"
        vars(self).update(options)


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("options", [
    {"margin": 0.0, "margin_strategy": "absolute", "contrast_anchors": True, "contrast_positives": True},
    {"margin": 0.2, "margin_strategy": "relative", "contrast_anchors": True, "contrast_positives": False},
    {"margin": 0.1, "margin_strategy": "absolute", "contrast_anchors": False, "contrast_positives": True},
])  # fmt: skip
def test_parity_sentence_transformers(columns: int, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 6
    student, guide = (normalize(torch.randn(columns * n, 8, dtype=torch.float64), dim=1) for _ in range(2))
    tables = {"model": student.split(n), "guide": guide.split(n)}
    module = "sentence_transformers.sentence_transformer.losses.gist_embed.embed_columns"
    monkeypatch.setattr(module, lambda model, features: [part.clone() for part in tables[model]])
    theirs = _Peer(temperature=0.05, **options)([{}] * columns, None)
    index = torch.arange(n)[:, None]
    batch = LossInput(
        embeddings=Embeddings(student), hashes=torch.arange(columns * n), query=index[:, 0], positives=index + n,
        negatives=index + 2 * n if columns == 3 else index[:, :0], score=None, rows=slice(0, n), teacher=guide,
    )  # fmt: skip
    ours = Gist(
        0.05, options["margin"], MarginOf(options["margin_strategy"]), options["contrast_anchors"], options["contrast_positives"]
    )  # fmt: skip
    torch.testing.assert_close(ours(batch).value, theirs, rtol=0, atol=1e-6)


def test_gradcheck(batch: LossInput) -> None:
    def value(final: torch.Tensor) -> torch.Tensor:
        return Gist(0.3)(replace(batch, embeddings=Embeddings(final))).value

    assert torch.autograd.gradcheck(value, batch.embeddings.final)


def test_a_guide_that_prefers_nothing_leaves_infonce(batch: LossInput) -> None:
    """All positives are the guide's best answers: only equal texts are left out, as in infonce."""
    guide = torch.eye(17, dtype=torch.float64)
    for row in range(5):
        for document in batch.positives[row].tolist():
            if document >= 0:
                guide[document] = guide[row]
    plain = InfoNCE(0.3)(batch)
    ours = Gist(0.3, contrast_queries=False, contrast_positives=False)(replace(batch, teacher=guide))
    torch.testing.assert_close(ours.value, plain.value)
    assert ours.logs["masked"] >= plain.logs["masked"]


def test_a_guide_that_prefers_all_others_leaves_no_negative(batch: LossInput) -> None:
    output = Gist(margin=2.0)(batch)
    torch.testing.assert_close(output.value, torch.zeros((), dtype=torch.float64))
    assert torch.autograd.grad(output.value, batch.embeddings.final)[0].isfinite().all()


def test_rows_average_to_the_whole(batch: LossInput) -> None:
    four = replace(batch, rows=slice(0, 4), **{name: vars(batch)[name][:4] for name in PER_ROW[:3]})
    parts = [Gist(0.3)(replace(four, rows=slice(start, start + 2))).value for start in (0, 2)]
    torch.testing.assert_close(sum(parts) / 2, Gist(0.3)(four).value, rtol=1e-12, atol=1e-12)


def test_properties_and_refusals() -> None:
    assert Gist().tasks == {Task.retrieval, Task.sts}
    assert Gist().needs_teacher_embeddings
    for options, message in (
        ({"temperature": 0.0}, "gist: temperature must be positive"),
        ({"margin": -0.1}, r"gist: margin must be in \[0, 2\], got -0.1"),
        ({"min_score": 2.0}, r"gist: min_score must be in \[0, 1\]"),
    ):
        with pytest.raises(ConfigError, match=message):
            Gist(**options)
