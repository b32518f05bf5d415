"""Laws over all registered plans of experts: a new one is tested the day it appears."""

import pytest
import torch
from omegaconf import OmegaConf

from lightning_embed import registry
from lightning_embed.config import schema
from lightning_embed.errors import ConfigError
from lightning_embed.experts import Expert, ExpertPlan
from lightning_embed.types import BASE
from tests.experts.toy import SETS, NoMeasure, ToyMeasure
from tests.words import options

MEASURE = ToyMeasure(
    {name: torch.tensor([float(number), 1.0]) for number, name in enumerate(SETS)},
    {model: {name: float(len(model) + number) for number, name in enumerate(SETS)} for model in ("joint", *SETS)},
)
WORDS = registry.names("experts")


def _build(word: str, **chosen: str) -> ExpertPlan:
    plan: ExpertPlan = registry.get("experts", word)(**options("experts", word), **chosen)
    return plan


@pytest.mark.parametrize("word", WORDS)
def test_datasets_and_starts(word: str) -> None:
    """Names are distinct, every dataset trains somebody, an expert starts from the base or an earlier one."""
    experts = _build(word).experts(SETS, 0, MEASURE)
    names = [expert.name for expert in experts]
    assert len(set(names)) == len(names)
    assert {name for e in experts for name in e.rows} == set(SETS)
    assert all(expert.start in (BASE, *names[:place]) for place, expert in enumerate(experts))
    assert all(bool(expert.rows) == (expert.path is None) for expert in experts)


@pytest.mark.parametrize("word", WORDS)
def test_rows(word: str) -> None:
    """Rows exist, stand once and in order; there is at least one; the size of an expert counts them."""
    for expert in _build(word).experts(SETS, 0, MEASURE):
        chosen = {name: list(range(SETS[name].num_rows) if r is None else r) for name, r in expert.rows.items()}
        for name, rows in chosen.items():
            assert rows == sorted(set(rows) & set(range(SETS[name].num_rows)))
            assert rows
        assert expert.num_rows(SETS) == sum(map(len, chosen.values()))


@pytest.mark.parametrize("word", WORDS)
def test_the_same_seed_is_the_same_plan(word: str) -> None:
    """Also in another command, which trains only one of the experts."""
    experts = _build(word).chosen(SETS, 3, MEASURE)
    for expert in experts:
        only = _build(word, only=expert.name)
        if expert.path is None:
            assert only.chosen(SETS, 3, MEASURE) == [expert]
        else:
            with pytest.raises(ConfigError, match="exists already and needs no training"):
                only.chosen(SETS, 3, MEASURE)


class Pair(ExpertPlan):
    """Two datasets whose models would have one name."""

    def experts(self, datasets, seed, measure):
        return [Expert("a", {"a": None}), Expert("a-ema", {"a-ema": None})]


def test_two_models_of_one_name() -> None:
    with pytest.raises(ConfigError, match=r"Two models of this plan would be called 'a-ema'. Rename a dataset."):
        Pair(ema=0.9).chosen(SETS, 0, NoMeasure())


@pytest.mark.parametrize("word", WORDS)
def test_the_yaml_states_every_default(word: str) -> None:
    stated = OmegaConf.load(schema.conf_folder() / "experts" / f"{word}.yaml")
    defaults = OmegaConf.structured(schema.twin(registry.get("experts", word)))
    assert {key: stated[key] for key in stated if key != "defaults"} == OmegaConf.to_container(defaults)
