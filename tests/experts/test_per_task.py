"""One expert per task."""

import pytest

from lightning_embed.errors import ConfigError
from lightning_embed.experts.per_task import PerTask
from tests.experts.toy import SETS, NoMeasure, names_of


def test_plan() -> None:
    assert names_of(PerTask()) == {"retrieval": ["squad", "nq"], "sts": ["stsb"]}


def test_all_rows_of_the_task() -> None:
    experts = PerTask().experts(SETS, 0, NoMeasure())
    assert [expert.num_rows(SETS) for expert in experts] == [100 + 50, 10]


def test_an_unknown_expert() -> None:
    with pytest.raises(ConfigError, match=r"experts.only=retrieva: no such expert. Did you mean 'retrieval'\?"):
        PerTask(only="retrieva").chosen(SETS, 0, NoMeasure())
