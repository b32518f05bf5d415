"""The existing model, and an expert on new data and a share of the old."""

from pathlib import Path

import pytest

from lightning_embed.errors import ConfigError
from lightning_embed.experts import Expert
from lightning_embed.experts.update import Start, Update
from lightning_embed.types import BASE
from tests.experts.toy import SETS, NoMeasure

OPTIONS = {"new": ["nq"], "existing": "."}  # for the laws


def _plan(plan: Update, seed: int = 0) -> list[Expert]:
    return plan.experts(SETS, seed, NoMeasure())


def test_plan(tmp_path: Path) -> None:
    existing, update = _plan(Update(new=["stsb"], existing=str(tmp_path)))
    assert existing == Expert("existing", {}, path=str(tmp_path))
    assert (update.name, update.start, update.path) == ("update", BASE, None)
    assert {name: rows and len(rows) for name, rows in update.rows.items()} == {"squad": 40, "stsb": None, "nq": 20}
    assert update.num_rows(SETS) == 0.4 * (100 + 50) + 10, "the cost that the paper gives, in rows"


def test_history_of_all_and_of_nothing(tmp_path: Path) -> None:
    options = {"new": ["nq"], "existing": str(tmp_path)}
    assert _plan(Update(**options, history_share=1.0))[1].rows == dict.fromkeys(SETS)
    assert _plan(Update(**options, history_share=0.0))[1].rows == {"nq": None}


def test_the_history_is_drawn_once(tmp_path: Path) -> None:
    """The next new dataset leaves the rows of the old ones as they are; another seed does not."""
    one = _plan(Update(new=["stsb"], existing=str(tmp_path)))[1]
    two = _plan(Update(new=["nq"], existing=str(tmp_path)))[1]
    other = _plan(Update(new=["stsb"], existing=str(tmp_path)), seed=1)[1]
    assert one.rows["squad"] == two.rows["squad"]
    assert one.rows["squad"] != other.rows["squad"]


def test_training_on_from_the_existing_model(tmp_path: Path) -> None:
    plan = Update(new=["stsb"], existing=str(tmp_path), history_share=0.0, start=Start.existing, seeds=2)
    _, update, again = plan.chosen(SETS, 0, NoMeasure())
    assert (update.start, update.start_path, update.rows) == ("existing", str(tmp_path), {"stsb": None})
    assert (again.name, again.start, again.start_path) == ("update-seed_1", "existing", str(tmp_path))


def test_an_existing_model_is_not_trained_again_for_another_seed(tmp_path: Path) -> None:
    plan = Update(new=["stsb"], existing=str(tmp_path), seeds=2)
    assert [e.name for e in plan.chosen(SETS, 0, NoMeasure())] == ["existing", "update", "update-seed_1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "experts=update needs experts.new=[...], the new datasets. Known: squad, stsb, nq."),
        (
            {"new": ["sqad"]},
            "experts.new: no dataset 'sqad' with train rows. Did you mean 'squad'? Known: nq, squad, stsb.",
        ),
        (
            {"new": ["nq"]},
            "experts=update needs the model to merge with: give experts.existing=<its directory>.",
        ),
        (
            {"new": ["nq"], "existing": "no/where"},
            "experts.existing=no/where is not a directory: give that of the existing model.",
        ),
    ],
)
def test_refusals(options, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _plan(Update(**options))
    assert str(caught.value) == message


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range(share: float) -> None:
    with pytest.raises(ConfigError, match=r"^experts.history_share must be in \[0, 1\], got "):
        Update(history_share=share)
