"""One expert per mixture of the datasets."""

import pytest

from lightning_embed.errors import ConfigError
from lightning_embed.experts.mixtures import Mixtures
from tests.experts.toy import SETS, NoMeasure

TWO = {"a": {"squad": 3, "stsb": 1.0, "nq": 0}, "b": {"nq": 2.0}}


def test_shares_of_steps() -> None:
    """A dataset with weight 0, or without one, is not in the mixture."""
    a, b = Mixtures(mixtures=TWO).chosen(SETS, 0, NoMeasure())
    assert (a.name, a.start, list(a.rows), list(b.rows)) == ("a", "base", ["squad", "stsb"], ["nq"])
    assert a.options == {"sampler": {"name": "proportional", "step_shares": {"squad": 3.0, "stsb": 1.0}}}


def test_without_mixtures_there_are_two() -> None:
    by_rows, equal = Mixtures().chosen(SETS, 0, NoMeasure())
    assert by_rows.options["sampler"]["step_shares"] == {"squad": 100, "stsb": 10, "nq": 50}
    assert set(equal.options["sampler"]["step_shares"].values()) == {1}


@pytest.mark.parametrize(
    ("mixtures", "message"),
    [
        ({"a": {"squad": -1.0}}, r"experts.mixtures.a.squad must be a number from 0, got -1"),
        ({"a": {"squad": "x"}}, r"experts.mixtures.a.squad must be a number from 0, got 'x'"),
        ({"a": ["squad"]}, r"experts.mixtures.a: expected weights like \{faq: 3"),
        ({"a": {"squad": 0.0}}, r"experts.mixtures.a: expected a weight above 0"),
        ({"a": {"sqad": 1.0}}, r"experts.mixtures.a: no dataset 'sqad' with train rows. Did you mean 'squad'"),
    ],
)
def test_what_is_refused(mixtures: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Mixtures(mixtures=mixtures).chosen(SETS, 0, NoMeasure())
