"""Small datasets and short trainings in whole runs: what the plan, the table of a training and the cards have of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from lightning_embed.card.training import Training
from lightning_embed.errors import DataError
from lightning_embed.run import plan, train
from lightning_embed.run.fit import _plan
from lightning_embed.run.prepare import prepare
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of itself in a whole run
JOINT = ["experts=joint", "merge=none", "evaluation=none", "logger=none", "trainer.limit_val_batches=0"]
FACTS, PHRASES = "data.datasets.facts", "data.datasets.phrases"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


def _given(model: Path, toy: Path, out: Path, *more: str) -> list[str]:
    return [*_overrides(model, toy, out), *JOINT, *more]


def _card(model: Path) -> tuple[Training, str]:
    card = ModelCard.load(model / "README.md")
    training = Training.read(card.data.to_dict()["lightning_embed"]["training"])
    assert training is not None
    return training, card.text


@pytest.mark.parametrize(
    ("more", "sizes", "hints"),
    [
        ([], (8, 8), []),
        ([f"{FACTS}.batch_size=48"], (48, 8), []),
        ([f"{FACTS}.batch_size=64"], (48, 8), ["facts: 48 rows do not fill a step of batch_size=64: it trains with batch_size=48."]),
        ([f"{FACTS}.max_rows=5"], (5, 8), ["facts: 5 rows do not fill a step of batch_size=8: it trains with batch_size=5."]),
        ([f"{FACTS}.max_rows=2"], (2, 8), ["facts: 2 rows do not fill a step of batch_size=8: it trains with batch_size=2."]),
        ([f"{FACTS}.max_rows=13", "sampler.accumulate=2"], (6, 8), ["facts: 13 rows do not fill a step of batch_size=8: it trains with batch_size=6."]),
        ([f"{FACTS}.max_rows=13", "trainer.devices=2"], (8, 8), []),
        ([f"{FACTS}.max_rows=7", "trainer.devices=2"], (6, 8), ["facts: 7 rows do not fill a step of batch_size=8: it trains with batch_size=6."]),
        ([f"{FACTS}.max_rows=7", "trainer.devices=4"], (4, 8), ["facts: 7 rows do not fill a step of batch_size=8: it trains with batch_size=4."]),
        ([f"{FACTS}.max_rows=3", "sampler=mixed", "sampler.num_parts=2"], (6, 8), ["facts: 3 rows do not fill a step of batch_size=8: it trains with batch_size=6."]),
        ([f"{FACTS}.max_rows=6", "sampler=mixed", "sampler.num_parts=2"], (8, 8), []),
        ([f"{FACTS}.max_rows=5", "sampler=round_robin"], (5, 8), ["facts: 5 rows do not fill"]),
        ([f"{FACTS}.max_rows=5", "sampler=proportional"], (5, 8), ["facts: 5 rows do not fill"]),
        ([f"{FACTS}.max_rows=5", "sampler=two_stage"], (5, 8), ["facts: 5 rows do not fill"]),
        (["sampler=sequential", "trainer.max_steps=2"], (8, 8), ["phrases: not reached in 2 steps: its first batch is in step 7. Raise trainer.max_steps, or leave it out."]),
        (["sampler=sequential", "trainer.max_steps=6"], (8, 8), ["phrases: not reached in 6 steps: its first batch is in step 7."]),
        (["sampler=sequential", "trainer.max_steps=7"], (8, 8), []),
        ([f"{PHRASES}.max_rows=4", f"{PHRASES}.batch_size=16", "sampler=mixed", "sampler.num_parts=4"], (8, 16), []),
    ],
)  # fmt: skip
def test_the_plan(
    more: list[str], sizes: tuple[int, int], hints: list[str], tiny_model: Path, toy: Path, tmp_path: Path
) -> None:
    prepared = prepare(_cfg("train", _given(tiny_model, toy, tmp_path / "run", *more)))
    (training,) = prepared.trainings
    stream = training.batches.steps()
    assert tuple(feed.batch_size for feed in stream.datasets.values()) == sizes
    limits = prepared.cfg.trainer.max_steps, prepared.cfg.trainer.max_epochs
    steps = training.batches.num_steps(*limits)
    found = list(plan.hints(training, stream, steps, plan.rows_seen(stream, steps)))
    assert len(found) == len(hints)
    assert all(text.startswith(start) for text, start in zip(found, hints, strict=True)), found


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([f"{FACTS}.max_rows=3", "trainer.devices=4"], "facts: expected at least 4 train rows"),
        ([f"{FACTS}.max_rows=3", "sampler.accumulate=2"], "facts: expected at least 4 train rows"),
        (["experts=bagging", "experts.bag_shares=[0.5]", "experts.complement=true", f"{FACTS}.max_rows=9"],
         "bag_1, facts: expected at least 2 train rows .* got 1"),
    ],
)  # fmt: skip
def test_what_no_batch_holds_is_refused(
    more: list[str], message: str, tiny_model: Path, toy: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        prepare(_cfg("train", _given(tiny_model, toy, tmp_path / "run", *more)))
    assert not (tmp_path / "run").exists()


def _table(prepared: Any, steps: int) -> dict[str, tuple[int, int]]:
    (training,) = prepared.trainings
    return {row["dataset"]: (row["rows_seen"], row["rows_trained_on"]) for row in _plan(training, steps)}


def test_a_small_dataset_is_trained_on(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    more = [f"{FACTS}.max_rows=5", "trainer.max_steps=14"]
    cfg = _cfg("train", _given(tiny_model, toy, tmp_path / "run", *more))
    assert _table(prepare(cfg), 14) == {"facts": (5, 10), "phrases": (48, 96)}
    train.train(cfg)
    training, text = _card(tmp_path / "run" / "models" / "joint")
    assert (training.seen, training.drawn) == ({"facts": 5, "phrases": 48}, {"facts": 10, "phrases": 96})
    assert "on facts and phrases, 14 steps" in text
    assert "| facts: 5, phrases: 48 | facts: 5 (2.00 times each), phrases: 48 (2.00 times each) | 14 |" in text
    assert "rows of a batch: facts 5, phrases 8" in text
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<td>joint</td><td>facts</td><td>5</td><td>5</td><td>2.00</td>" in page


def test_a_card_names_what_was_reached_alone(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """Neither a training that ends before a dataset nor a snapshot before its first batch was trained on it."""
    more = ["sampler=sequential", "experts.snapshots=2", "trainer.max_steps=8", "license=mit"]
    cfg = _cfg("train", _given(tiny_model, toy, tmp_path / "run", *more))
    train.train(cfg)
    models = tmp_path / "run" / "models"
    early, text = _card(models / "joint-snapshot_1")
    assert (early.steps, early.seen, early.drawn) == (4, {"facts": 32, "phrases": 0}, {"facts": 32, "phrases": 0})
    assert early.trained_on == ["facts"]
    assert list(early.losses) == ["retrieval"]
    assert "on facts, 4 steps" in text
    assert "cosent" not in text
    last, text = _card(models / "joint")
    assert last.seen == {"facts": 48, "phrases": 16}
    assert last.trained_on == ["facts", "phrases"]
    assert "on facts and phrases, 8 steps" in text
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<td>joint-snapshot_1</td><td>phrases</td><td>48</td><td>0</td><td>0</td>" in page
    json.dumps(_plan(prepare(cfg).trainings[0], 8))


def test_cards_of_earlier_versions() -> None:
    old = Training({"a": 5, "b": 3}, 4, {})
    assert old.trained_on == ["a", "b"]
    assert Training.read({"rows": {"a": 5}, "steps": 4, "losses": {}}) == Training({"a": 5}, 4, {})
