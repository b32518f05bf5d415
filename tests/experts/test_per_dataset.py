"""One expert per dataset."""

import pytest

from lightning_embed.errors import ConfigError
from lightning_embed.experts.per_dataset import PerDataset
from lightning_embed.types import Task, TrainSet
from tests.experts.toy import SETS, NoMeasure, names_of


def test_plan() -> None:
    assert names_of(PerDataset()) == {"squad": ["squad"], "stsb": ["stsb"], "nq": ["nq"]}


def test_all_rows_of_the_dataset() -> None:
    experts = PerDataset().experts(SETS, 0, NoMeasure())
    assert [expert.num_rows(SETS) for expert in experts] == [100, 10, 50]


def test_a_dataset_of_a_name_that_is_taken() -> None:
    with pytest.raises(ConfigError, match=r"^An expert cannot be called 'base': .* Rename the dataset\.$"):
        PerDataset().chosen({"base": TrainSet(Task.sts, 10, 4)}, 0, NoMeasure())
