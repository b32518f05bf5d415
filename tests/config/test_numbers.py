"""Numeric options: NaN, infinity and absurd numbers are refused by the name of the option, before anything is read."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, get_args, get_type_hints

import pytest
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from lightning_embed import registry
from lightning_embed.config import schema
from lightning_embed.config.compose import check_command
from lightning_embed.config.numbers import bad_numbers
from lightning_embed.errors import ConfigError
from tests.config.test_config import COMMANDS, _compose

schema.register()
NOT_FINITE = (math.nan, math.inf, -math.inf)
ABSURD = (*NOT_FINITE, 1e30, -1e30, 1e10, 1e-40, 10**30)


def _numeric(room: str) -> Iterator[tuple[str, str, Any]]:
    """(word, field, type) of every numeric option of every registered word, in lists and dictionaries too."""
    for word in registry.names(room):
        hints = get_type_hints(registry.get(room, word))
        for item in fields(registry.get(room, word)):
            parts = {hints[item.name], *get_args(hints[item.name])}
            inside = {part for outer in parts for part in (outer, *get_args(outer))}
            if inside & {int, float} and item.init:
                yield word, item.name, hints[item.name]


OPTIONS = [(room, *found) for room in registry.ROOMS for found in _numeric(room)]


def _holding(value: float, hint: Any) -> Any:
    """A value of the type, with the number in it."""
    text = str(hint)
    return [0.5, value] if "list[" in text else {"sts": value} if "dict[" in text else value


def test_there_are_options_to_try() -> None:
    assert len(OPTIONS) > 100
    assert {("merge", "ties", "scale"), ("loss", "infonce", "temperature"), ("experts", "joint", "ema")} <= {
        option[:3] for option in OPTIONS
    }


@pytest.mark.parametrize(
    ("room", "word", "option", "hint"), OPTIONS, ids=lambda part: part if isinstance(part, str) else ""
)
def test_every_number_of_every_word(room: str, word: str, option: str, hint: Any) -> None:
    for value in ABSURD:
        with pytest.raises(ConfigError) as caught:
            registry.build(room, {"name": word, option: _holding(value, hint)})
        assert str(caught.value).startswith(f"{room}={word}: {option}")
        assert f"={value} must be a finite number" in str(caught.value)


@pytest.mark.parametrize("word", registry.names("merge"))
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e30", "-1e6", "100.1"])
def test_every_rule_of_layers(word: str, number: str) -> None:
    with pytest.raises(ConfigError, match=r"layers: 'a.*': the number must be a finite number from -100 to 100, got"):
        registry.build("merge", {"name": word, "layers": ["b=1", f"a={number}"]})


@pytest.mark.parametrize("word", [word for word, option, _ in _numeric("merge") if option == "scale"])
@pytest.mark.parametrize("scale", [100.1, -101.0, 1e6, 9e8])
def test_a_scale_that_makes_no_model(word: str, scale: float) -> None:
    if registry.get("merge", word).__module__.startswith("lightning_embed.plugins."):
        with pytest.raises(ConfigError, match=rf"merge={word}: scale must be a finite number from -100 to 100, got"):
            registry.build("merge", {"name": word, "scale": scale})


@pytest.mark.parametrize("scale", [100.0, -1.0, 0.0, 1e-30])
def test_a_scale_that_makes_one(scale: float) -> None:
    assert registry.build("merge", {"name": "ties", "scale": scale}).scale == scale


@pytest.mark.parametrize("options", [{"density": 1e-7}, {"density": 0.1500001, "epsilon": 0.15}])
def test_chances_that_cannot_be_drawn(options: dict[str, float]) -> None:
    word = "della" if "epsilon" in options else "dare"
    with pytest.raises(ConfigError, match=rf"merge={word}: density.*=1e-07 must be at least 1e-6"):
        registry.build("merge", {"name": word, **options})


@dataclass(frozen=True)
class Strange:
    """A plugin of a stranger: no base class of ours, and no check of its own."""

    size: float = 1.0
    sizes: list[float] = field(default_factory=list)
    by_task: dict[str, float] = field(default_factory=dict)
    nested: dict[str, list[float]] = field(default_factory=dict)
    count: int = 3

    def __post_init__(self) -> None:
        assert math.isfinite(self.size)


@pytest.mark.parametrize("room", registry.ROOMS)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": math.nan}, "size=nan"),
        ({"size": 1e30}, "size=1e+30"),
        ({"sizes": [1.0, math.inf]}, "sizes[1]=inf"),
        ({"by_task": {"sts": -math.inf}}, "by_task.sts=-inf"),
        ({"nested": {"a": [math.nan]}}, "nested.a[0]=nan"),
        ({"count": 10**400}, "count=1000"),
    ],
)
def test_plugins_of_strangers(room: str, options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entries", {})
    registry.register(room, "strange")(Strange)
    with pytest.raises(ConfigError) as caught:
        registry.build(room, {"name": "strange", **options})
    assert str(caught.value).startswith(f"{room}=strange: {said}")
    assert registry.build(room, {"name": "strange", "size": 0.0, "count": -3, "sizes": [1e9, -1e-30]}).count == -3


def _leaves(node: DictConfig | ListConfig, path: str = "") -> Iterator[str]:
    """The paths of all numbers of a config."""
    for key in node if isinstance(node, DictConfig) else range(len(node)):
        full = f"{path}.{key}" if path else str(key)
        if full == "hydra" or OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        if isinstance(node[key], (DictConfig, ListConfig)):
            yield from _leaves(node[key], full)
        elif isinstance(node[key], float):
            yield full


@pytest.mark.parametrize("number", range(0, len(COMMANDS), 3))
def test_every_number_of_every_config(number: int) -> None:
    """Also of classes that we do not own: optimisers, callbacks, Lightning's Trainer."""
    root, row = COMMANDS[number]
    config = _compose(root, *row, *(["evaluation.tasks=[STS12]"] if "evaluation=mteb" in row else []))
    with open_dict(config):
        config.pop("hydra")
        for name in list(OmegaConf.select(config, "data.datasets", default={}))[5:]:  # hundreds are alike
            config.data.datasets.pop(name)
    assert bad_numbers(config) == []
    for path in _leaves(config):
        before = OmegaConf.select(config, path)
        OmegaConf.update(config, path, math.nan)
        assert any("=nan must be a finite number" in problem for problem in bad_numbers(config)), path
        OmegaConf.update(config, path, before)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("merge.scale=nan", "merge.scale=nan must be a finite number."),
        ("merge.scale=-inf", "merge.scale=-inf must be a finite number."),
        (
            "merge.scale=1e30",
            "merge=ties: scale=1e+30 must be a finite number: 0, or from 1e-30 to 1e+09, with either sign.",
        ),
        (
            "merge.scale=1e4",
            "merge=ties: scale must be a finite number from -100 to 100, got 10000: farther from the base",
        ),
        ("merge.density=nan", "merge.density=nan must be a finite number."),
        ("optimizer.lr=nan", "optimizer.lr=nan must be a finite number."),
        ("optimizer.betas=[0.9,inf]", "optimizer.betas[1]=inf must be a finite number."),
        ("+optimizer.maximize=nan", "optimizer.maximize=nan must be a finite number."),
        ("+let.low=inf", "let.low=inf must be a finite number."),
        ("trainer.limit_val_batches=nan", "trainer.limit_val_batches=nan must be a finite number."),
        ("retrieval_loss.temperature=inf", "retrieval_loss.temperature=inf must be a finite number."),
        ("scheduler.warmup_share=nan", "scheduler.warmup_share=nan must be a finite number."),
        ("encoder.lora_alpha=1e30", "encoder.lora_alpha=1e+30 must be a finite number: 0, or from 1e-30 to 1e+09"),
        ("mining.relative_margin=inf", "mining.relative_margin=inf must be a finite number"),
        ("experts.ema=nan", "experts.ema=nan must be a finite number."),
        ("checkpoint_minutes=inf", "checkpoint_minutes=inf must be a finite number."),
        ("data.datasets.facts.dev_share=nan", "data.datasets.facts.dev_share=nan must be a finite number."),
        ("data.datasets.facts.score_range=[0,inf]", "data.datasets.facts.score_range[1]=inf must be a finite number."),
        ("data.num_workers=-1", "data.num_workers: expected auto or at least 0, got -1."),
    ],
)
def test_a_command_is_answered_by_the_name_of_the_option(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_command("train", ["data.root=somewhere", "merge=ties", override])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sweep", ["merge.scale=0.5,nan", "merge.scale=interval(0.1,1e30)", "merge.scale=choice(1,inf)"]
)
def test_values_of_a_sweep(sweep: str) -> None:
    with pytest.raises(ConfigError, match=r"scale=.* must be a finite number"):
        check_command("train", ["data.root=somewhere", "merge=ties", sweep], multirun=True)


def test_a_number_of_5000_digits() -> None:
    with pytest.raises(ConfigError, match=r"Cannot read the command line: .* has 5000 digits"):
        check_command("train", ["data.root=somewhere", "merge=fisher", f"merge.num_batches={'1' * 5000}"])


def test_a_number_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALE", "nan")
    with pytest.raises(ConfigError, match=r"merge\.scale=nan must be a finite number"):
        check_command("train", ["data.root=somewhere", "merge=ties", "merge.scale=${oc.env:SCALE}"])


@pytest.mark.parametrize("value", [math.nan, 1e30])
def test_a_recipe(value: float) -> None:
    """The options of an earlier merge are read from a file that may have been edited."""
    with pytest.raises(ConfigError, match=r"merge=ties: scale=.* must be a finite number"):
        schema.built("merge", {"name": "ties", "scale": value})
