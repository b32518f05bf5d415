"""The budget of operations of a training step on a GPU, and that none of them waits for it: see benchmarks/dispatches.py."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lightning_embed import registry
from lightning_embed.training.gather import local
from lightning_embed.types import Batch, Embeddings, Task, Tokens
from tests.words import options

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "dispatches.py"


@pytest.fixture(scope="module")
def dispatches() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dispatches", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dispatches")


def test_the_count_does_not_depend_on_the_lengths(dispatches: ModuleType, models: Path) -> None:
    path = dispatches.build("minilm", models)
    equal, unequal = [[7] * 30] * 16, [[7] * length for length in range(20, 36)]
    one, other = (dispatches.count_ours(path, texts, "plain") for texts in (equal, unequal))
    assert one == other


@pytest.mark.parametrize("step", ["plain", "cached", "lora"])
def test_no_step_waits_for_a_gpu(step: str, dispatches: ModuleType, models: Path) -> None:
    path, texts = dispatches.build("minilm", models), dispatches.texts_of(16)
    assert dispatches.syncs_of_ours(path, texts, step, max_tokens=600) == []


def test_a_read_and_a_copy_that_wait_are_counted(dispatches: ModuleType) -> None:
    with dispatches.Count("cpu") as count:
        (torch.ones(1) > 0).nonzero()
        float(torch.ones(1))
    assert count.syncs == ["nonzero", "_local_scalar_dense"]
    with dispatches.Count() as count:
        torch.ones(1).to("meta", non_blocking=True)
        torch.ones(1).to("meta")
    assert count.syncs == ["_to_copy cpu meta"]


@pytest.mark.filterwarnings("ignore")  # sentence-transformers' own
def test_fewer_operations_than_a_padded_trainer(dispatches: ModuleType, models: Path) -> None:
    path, texts = dispatches.build("minilm", models), dispatches.texts_of(16)
    assert dispatches.count_ours(path, texts, "plain") <= 0.7 * dispatches.count_theirs(path, texts, "plain")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", ["modernbert_base", "qwen3_0_6b"])
@pytest.mark.parametrize("step", ["plain", "cached", "lora"])
def test_the_budget_of_other_models(model: str, step: str, dispatches: ModuleType, models: Path) -> None:
    path, texts = dispatches.build(model, models), dispatches.texts_of(16)
    assert dispatches.count_ours(path, texts, step) <= 1.1 * dispatches.count_theirs(path, texts, step)
    assert dispatches.syncs_of_ours(path, texts, step) == []


@pytest.mark.parametrize("word", registry.names("loss"))
def test_no_loss_waits_for_a_gpu(word: str, dispatches: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks too, of which large batches have several."""
    monkeypatch.setattr("lightning_embed.loss.blocks.MAX_LOGITS", 16)
    loss = registry.get("loss", word)(**options("loss", word))
    task = sorted(loss.tasks)[0]
    rows, sts = torch.arange(6), task is Task.sts
    batch = Batch(
        "d", task, Tokens.of([[1]] * 24), torch.arange(24), rows, rows[:, None] + 6,
        torch.empty(6, 0, dtype=torch.int64) if sts else torch.stack([rows + 12, rows + 18], 1),
        score=torch.rand(6) if sts else None, positive_scores=torch.rand(6, 1),
        negative_scores=None if sts else torch.rand(6, 2),
    ).to("meta", non_blocking=True)  # fmt: skip
    embeddings = [torch.empty(24, 8, device="meta", requires_grad=True) for _ in range(2)]
    with dispatches.Count() as count:
        loss(local(batch, Embeddings(*embeddings))).value.backward()
    assert count.syncs == []
