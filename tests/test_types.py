"""Batches on their way to a device."""

import pytest
import torch

from lightning_embed.types import Batch, Task, Tokens


@pytest.fixture
def batch() -> Batch:
    one = torch.tensor([0])
    return Batch("squad", Task.retrieval, Tokens.of([[1, 2], [3]]), one, one, one[:, None], one[:, None], weight=0.5)


def test_the_offsets_stay_on_the_cpu(batch: Batch) -> None:
    """Whoever cuts chunks reads them, and must not wait for a GPU."""
    moved = batch.to("meta")
    assert moved.tokens.ids.device.type == moved.query.device.type == "meta"
    assert moved.tokens.lengths.tolist() == [2, 1]
    assert (moved.dataset, moved.weight, moved.score) == ("squad", 0.5, None)


def test_a_loader_that_pins_pins_all_tensors(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU here: torch's own pin_memory is replaced, and the DataLoader's walk through a step is real."""
    from torch.utils.data._utils.pin_memory import pin_memory

    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: pinned.append(tensor) or tensor.clone())
    (result,) = pin_memory((batch,))
    assert len(pinned) == 5
    assert isinstance(result, Batch)
    assert result.tokens.ids is not batch.tokens.ids


def test_texts_are_counted_before_the_batch_moves() -> None:
    """On the meta device nothing can be counted, as on a GPU nothing without waiting for it."""
    rows = torch.arange(2)
    slots = torch.tensor([[2, 3], [4, -1]])
    batch = Batch(
        "squad", Task.retrieval, Tokens.of([[1]] * 6), torch.arange(6), rows, slots, torch.tensor([[5], [-1]])
    )
    assert batch.num_texts == 6
    assert batch.to("meta", non_blocking=True).num_texts == 6
