"""csv, TensorBoard and W&B get the same numbers of one run."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from tests.logger.offline import read_runs

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

Numbers = dict[str, list[tuple[int, float]]]
"""Metric -> (step, value), in order of steps."""


def _sorted(found: dict[str, set[tuple[int, float]]]) -> Numbers:
    return {key: sorted(values) for key, values in found.items() if key != "epoch"}


def _csv(folder: Path) -> Numbers:
    found = defaultdict(set)
    with (folder / "version_0" / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if value and key != "step":
                    found[key].add((int(row["step"]), float(value)))
    return _sorted(found)


def _wandb(history: list[dict]) -> Numbers:
    found = defaultdict(set)
    for row in history:
        for key, value in row.items():
            ours = not key.startswith("_") and "." not in key and key != "trainer/global_step"  # a.b: part of a table
            if ours and isinstance(value, (int, float)):
                found[key].add((row["trainer/global_step"], value))
    return _sorted(found)


def _tensorboard(folder: Path) -> Numbers:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag != "hp_metric"]
    return _sorted({tag: {(event.step, event.value) for event in events.Scalars(tag)} for tag in tags})


def _same(ours: Numbers, theirs: Numbers) -> None:
    assert set(ours) == set(theirs)
    for key, values in ours.items():
        assert [step for step, _ in values] == [step for step, _ in theirs[key]], key
        assert [value for _, value in values] == pytest.approx([value for _, value in theirs[key]], rel=1e-5), key


def test_csv_and_wandb(logged: Path) -> None:
    for run in read_runs(logged).values():
        numbers = _csv(logged / "logs" / run.name)
        assert len(numbers) > 15
        _same(numbers, _wandb(run.history))


def test_csv_and_tensorboard(logged: Path) -> None:
    pytest.importorskip("tensorboard")
    for folder in (logged / "logs").iterdir():
        _same(_csv(folder), _tensorboard(logged / "tensorboard" / folder.name))


def test_pictures_of_tensorboard(logged: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = set()
    for folder in (logged / "tensorboard").iterdir():
        events = EventAccumulator(str(folder))
        events.Reload()
        shown |= set(events.Tags()["images"])
    assert shown == {"picture/conflict", "picture/paths", "picture/plane", "picture/quality"}
