"""Workers by measurement: how many, and that they change nothing."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_embed.data import measured_loader
from lightning_embed.data.datamodule import EmbeddingDataModule
from lightning_embed.data.measured_loader import MeasuredLoader, workers_that_pay
from lightning_embed.data.options import DataOptions
from lightning_embed.errors import ConfigError
from lightning_embed.sampler import BatchPlan, StepSampler
from lightning_embed.sampler.mixed import Mixed
from tests.sampler.toy import FEEDS, plain, steps

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class _Plans:
    def __getitem__(self, plan: BatchPlan) -> BatchPlan:
        return plan


@pytest.mark.parametrize(
    ("batch", "step", "most", "workers"),
    [
        (0.001, 1.0, 8, 0), (0.019, 1.0, 8, 0), (0.021, 1.0, 8, 2), (0.5, 1.0, 8, 2), (1.0, 1.0, 8, 2), (1.1, 1.0, 8, 3),
        (5.0, 1.0, 8, 6), (9.0, 1.0, 8, 8), (9.0, 1.0, 1, 1), (1.0, 0.0, 4, 4), (0.0, 0.0, 4, 1), (1.0, 1.0, 0, 0),
    ],
)  # fmt: skip
def test_workers_that_pay(batch: float, step: float, most: int, workers: int) -> None:
    assert workers_that_pay(batch, step, most) == workers


def _run(loader: Any, seconds: float) -> Iterator[Any]:
    for batch in loader:
        time.sleep(seconds)
        yield batch


@pytest.mark.parametrize("first_step", [0, 5])
@pytest.mark.parametrize("chosen", [0, 2])
def test_a_change_in_the_middle_changes_nothing(first_step: int, chosen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_loader, "workers_that_pay", lambda *_: chosen)
    stream = StepSampler(Mixed(), FEEDS["several"], 5, rank=1, world_size=2, first_step=first_step)
    loader = MeasuredLoader(_Plans(), batch_sampler=stream, collate_fn=plain, most_workers=4)
    expected = StepSampler(Mixed(), FEEDS["several"], 5, rank=1, world_size=2)
    for epoch in range(3):
        stream.set_epoch(epoch)
        assert list(loader) == steps(expected, epoch)[first_step if epoch == 0 else 0 :]
    assert loader.chosen == chosen
    assert len(loader) == len(stream)


@pytest.mark.filterwarnings("ignore")  # Lightning warns of itself
def test_lightning_stops_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They ignore signals, so that nothing else would: a process that ends waits for them for ever."""
    from lightning.pytorch.utilities.combined_loader import CombinedLoader

    monkeypatch.setattr(measured_loader, "workers_that_pay", lambda *_: 2)
    stream = StepSampler(Mixed(), FEEDS["several"], 5)
    loader = MeasuredLoader(_Plans(), batch_sampler=stream, collate_fn=plain, most_workers=4)
    combined = CombinedLoader(loader)
    for epoch in range(2):
        stream.set_epoch(epoch)
        found = [batch for (batch, _, _), _ in zip(combined, range(10), strict=False)]  # cut off, as by max_steps
        assert found == steps(stream, epoch)[:10]
        assert loader._iterator is not None
        workers = loader._iterator._workers
        assert all(worker.is_alive() for worker in workers)
        combined.reset()
        assert not any(worker.is_alive() for worker in workers)


def test_few_steps_decide_nothing() -> None:
    stream = StepSampler(Mixed(), FEEDS["several"], 5)
    loader = MeasuredLoader(_Plans(), batch_sampler=stream.after(len(stream) - 3), collate_fn=plain, most_workers=4)
    assert list(loader) == steps(stream)[-3:]
    assert loader.chosen is None


def test_slow_steps_start_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_loader, "_WORTH", 0.5)  # of a machine that is busy with other things
    stream = StepSampler(Mixed(), FEEDS["several"], 5)
    loader = MeasuredLoader(_Plans(), batch_sampler=stream, collate_fn=plain, most_workers=4)
    assert len(list(_run(loader, 0.05))) == len(stream)
    assert loader.chosen == 0


@pytest.mark.parametrize("first_step", [0, 3, 12])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_the_rest_of_an_epoch(first_step: int, count: int) -> None:
    stream = StepSampler(Mixed(), FEEDS["several"], 5, first_step=first_step)
    stream.set_epoch(first_step // len(stream))
    assert steps(stream.after(count), stream.epoch) == steps(stream, stream.epoch)[count:]


@pytest.mark.parametrize(
    ("device", "cores", "threads", "devices", "free"),
    [("cpu", 2, 2, 1, 0), ("cpu", 8, 8, 1, 0), ("cpu", 8, 2, 1, 6), ("cpu", 8, 4, 2, 0), ("cuda", 8, 4, 1, 7),
     ("cuda", 8, 4, 4, 1), ("cuda", 2, 2, 4, 0)],
)  # fmt: skip
def test_free_cores(device: str, cores: int, threads: int, devices: int, free: int, monkeypatch) -> None:
    monkeypatch.setattr("lightning_embed.data.datamodule.joblib.cpu_count", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), num_devices=devices)
    assert EmbeddingDataModule._free_cores(SimpleNamespace(trainer=trainer)) == free
    assert EmbeddingDataModule._free_cores(SimpleNamespace(trainer=None)) == 0


@pytest.mark.parametrize("value", [-1, "many", ""])
def test_numbers_that_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"data\.num_workers: expected auto or at least 0, got"):
        DataOptions({}, None, num_workers=value)


@pytest.mark.parametrize("value", [0, 3, "auto"])
def test_numbers(value: Any) -> None:
    assert DataOptions({}, None, num_workers=value).num_workers == value
