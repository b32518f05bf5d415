"""One expert on everything."""

from lightning_embed.experts.joint import Joint
from tests.experts.toy import SETS, NoMeasure, names_of


def test_plan() -> None:
    assert names_of(Joint()) == {"joint": ["squad", "stsb", "nq"]}


def test_all_rows() -> None:
    (expert,) = Joint().experts(SETS, 0, NoMeasure())
    assert expert.rows == dict.fromkeys(SETS)
    assert expert.num_rows(SETS) == 100 + 10 + 50
