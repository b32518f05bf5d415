"""`forward`, `Trainer.predict` and `Trainer.test` give what the encoder and the evaluation room give."""

import random
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_embed import EmbeddingModule, load
from lightning_embed.data.whole_sets import WholeRows
from lightning_embed.evaluation import Local
from lightning_embed.training.inference import Predicted, in_order
from lightning_embed.types import Task
from tests.training.lightning import ADAMW, LOSSES, made, trainer

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's, of a trainer without many workers
TEXTS = ["the red cat", "", "a bird sleeps in the house near the river", "the red cat"]


@pytest.fixture(scope="module")
def module(tiny_model: Path) -> EmbeddingModule:
    return EmbeddingModule(load(tiny_model), LOSSES, ADAMW).eval()


def test_forward_of_texts_is_encode(module: EmbeddingModule) -> None:
    module.encoder.prompts |= {"query": "a big "}
    expected = module.encoder.encode(TEXTS)
    torch.testing.assert_close(module(TEXTS), expected)
    torch.testing.assert_close(module(tuple(TEXTS)), expected)
    torch.testing.assert_close(module(TEXTS[0]), expected[0])
    torch.testing.assert_close(module(module.encoder.tokenizer(TEXTS)), expected)
    torch.testing.assert_close(module(TEXTS, prompt="a big "), module.encoder.encode(TEXTS, "query"))


def test_forward_has_a_gradient_where_torch_records_one(module: EmbeddingModule) -> None:
    assert module(TEXTS).requires_grad
    with torch.inference_mode():
        assert not module(TEXTS).requires_grad


def test_predict_gives_every_text_of_every_row(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows)
    predictions = trainer(tmp_path).predict(module, data)
    random.Random(3).shuffle(predictions)
    found = in_order(predictions)
    assert list(found) == ["pairs", "scores"] or set(found) == {"pairs", "scores"}
    for name, part in found.items():
        of_row = [[*queries, *documents] for queries, documents, _ in map(data.train_rows[name].texts, range(48))]
        assert part.row.tolist() == [row for row, texts in enumerate(of_row) for _ in texts]
        assert part.place.tolist() == [place for texts in of_row for place in range(len(texts))]
        expected = module.encoder.encode([text for texts in of_row for text in texts])
        torch.testing.assert_close(part.embeddings, expected)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 40])
def test_ranks_share_the_batches(ranks: int, tiny_model: Path, rows: Path) -> None:
    _, data = made(tiny_model, rows)
    parts = [WholeRows(data.train_rows, data.tokenizer, data.prompts, rank, ranks) for rank in range(ranks)]
    seen = [(b.dataset, r, p) for part in parts for b in map(part.__getitem__, range(len(part))) for r, p in zip(b.row.tolist(), b.place.tolist(), strict=True)]  # fmt: skip
    assert len(seen) == len(set(seen)) == 48 * 4 + 48 * 2
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_order_of_ranks_is_restored() -> None:
    def part(rows: list[int], places: list[int]) -> Predicted:
        made_of = torch.tensor([[10.0 * row + place] for row, place in zip(rows, places, strict=True)])
        return Predicted("d", torch.tensor(rows), torch.tensor(places), made_of)

    second, first = [part([2, 2, 3], [0, 1, 0])], [part([0, 0, 1], [1, 0, 0]), part([4], [0])]
    joined = in_order([second, [first]])["d"]
    assert joined.embeddings.flatten().tolist() == [0, 1, 10, 20, 21, 30, 40]


def test_predict_takes_plain_texts(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, _ = made(tiny_model, rows)
    (first, second) = trainer(tmp_path).predict(module, DataLoader(TEXTS, batch_size=3))
    torch.testing.assert_close(torch.cat([first, second]), module.encoder.encode(TEXTS))


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_test_gives_the_scores_of_the_evaluation_room(
    precision: str, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    module, data = made(tiny_model, rows)
    state = torch.get_rng_state()
    (found,) = trainer(tmp_path, precision=precision).test(module, data, verbose=False)
    assert torch.equal(state, torch.get_rng_state())
    tests = [each for dataset in data.datasets for each in dataset.eval_sets]
    expected = Local(splits=["test"])(module.encoder.float(), tests)["test"]
    assert {Task(score["task"]) for score in expected.values()} == {Task.retrieval, Task.sts}
    close = {f"test/{name}": pytest.approx(score["score"], abs=1e-3) for name, score in expected.items()}
    assert found == close


def test_validate_gives_dev_losses(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    module, data = made(tiny_model, rows)
    (found,) = trainer(tmp_path).validate(module, data, verbose=False)
    assert found.keys() == {"dev/loss/pairs", "dev/loss/scores"}
