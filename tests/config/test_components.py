"""Objects from `_target_` nodes, and their refusals."""

from typing import Literal

import pytest
import torch
from omegaconf import OmegaConf

from lightning_embed.config.components import check_signature, instantiated, refusals_of
from lightning_embed.errors import ConfigError, DataError


class Part:
    """A component of somebody else."""

    def __init__(
        self, size: int, mode: Literal["fast", "slow"] = "fast", rate: float | None = None, **more: object
    ) -> None:
        if size == 13:
            raise ValueError("Thirteen is unlucky. Take another number")
        if size == 14:
            raise DataError("rows.jsonl: line 3: not this one")
        self.size, self.mode, self.rate, self.more = size, mode, rate, more


HERE = "tests.config.test_components.Part"


def _build(**options: object) -> Part:
    built = instantiated("group.part", OmegaConf.create({"_target_": HERE, **options}))
    assert isinstance(built, Part)
    return built


def test_values_arrive_as_they_are() -> None:
    built = _build(size=3, mode="slow", rate=1, other=[1, 2])
    assert (built.size, built.mode, built.rate, built.more) == (3, "slow", 1, {"other": [1, 2]})
    assert _build(size=3, rate=None).rate is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 1.5}, "group.part.size=1.5: expected int."),
        ({"size": "many"}, "group.part.size=many: expected int."),
        ({"size": 1, "mode": "fats"}, "group.part.mode=fats: no such choice. Did you mean 'fast'? Known: fast, slow."),
        ({"size": 1, "rate": [1]}, "group.part.rate=[1]: expected float or null."),
        ({"size": 13}, "group.part: Thirteen is unlucky."),
        ({}, "group.part: "),
    ],
)
def test_refusals(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _build(**options)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_our_own_errors_pass_as_they_are() -> None:
    with pytest.raises(DataError, match=r"^rows.jsonl: line 3"):
        _build(size=14)


@pytest.mark.parametrize("target", ["nothing.at_all", "torch.optim.AdamWW", "tests.config", ""])
def test_a_target_that_does_not_exist(target: str) -> None:
    with pytest.raises(ConfigError, match=r"^group\._target_="):
        check_signature("group", OmegaConf.create({"_target_": target}))


def test_an_unknown_option_names_the_nearest() -> None:
    node = OmegaConf.create({"_target_": "torch.optim.AdamW", "_partial_": True, "weight_deacy": 0.1})
    with pytest.raises(ConfigError, match=r"has no such option\. Did you mean 'weight_decay'"):
        check_signature("optimizer", node)


def test_what_a_call_raises_is_a_refusal() -> None:
    make = instantiated("optimizer", OmegaConf.create({"_target_": "torch.optim.AdamW", "_partial_": True, "lr": -1.0}))
    with pytest.raises(ConfigError, match=r"^optimizer: Invalid learning rate: -1.0\.$"), refusals_of("optimizer"):
        make([torch.nn.Parameter(torch.zeros(1))])
