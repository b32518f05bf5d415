"""Words inside of options have the options of their files, as at their own key."""

from typing import Any

import pytest

from lightning_embed import registry
from lightning_embed.config import schema
from lightning_embed.config.values import plain
from lightning_embed.config.words import chosen, own_loss
from lightning_embed.errors import ConfigError
from tests.run.test_train import _cfg


@pytest.mark.parametrize("word", schema.words("loss"))
def test_every_loss_is_as_at_its_key(word: str) -> None:
    assert chosen("x", "loss", word) == plain(_cfg("train", [f"loss@retrieval_loss={word}"]).retrieval_loss)


@pytest.mark.parametrize("group", ["scheduler", "optimizer", "sampler"])
def test_other_groups_are_as_at_their_keys(group: str) -> None:
    for word in schema.words(group):
        assert chosen("x", group, word) == plain(_cfg("train", [f"{group}={word}"])[group])


def test_options_beside_a_word_and_inside_of_a_loss() -> None:
    assert own_loss("faq", {"name": "infonce_grouped", "temperature": 0.3}) == {
        **chosen("x", "loss", "infonce"), "in_batch": False, "temperature": 0.3,
    }  # fmt: skip
    nested = own_loss("faq", {"name": "matryoshka", "dims": [8], "loss": {"name": "cosent", "temperature": 0.2}})
    assert nested["dims"] == [8]
    assert nested["loss"] == {**chosen("x", "loss", "cosent"), "temperature": 0.2}
    assert own_loss("faq", {"name": "matryoshka", "loss": {"temperature": 0.2}})["loss"]["name"] == "infonce"
    assert registry.build("loss", nested).loss.temperature == 0.2


def test_options_alone_replace_those_of_now() -> None:
    now = {"_target_": "x.y", "lr": 1.0, "eps": 2.0}
    assert chosen("x", "optimizer", {"lr": 3.0}, now) == {"_target_": "x.y", "lr": 3.0, "eps": 2.0}
    assert chosen("x", "optimizer", {"_target_": "z"}, now) == {"_target_": "z"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("infonse", r"^data.datasets.faq.loss=infonse: no such choice. Did you mean 'infonce'"),
        ({"name": "infonce", "temprature": 1}, r"^data.datasets.faq.loss.temprature: no such option. Did you mean"),
        ({"name": "infonce", "temperature": "x"}, r"^data.datasets.faq.loss: Value 'x' .*could not be converted"),
        ({"temperature": 1}, r"^data.datasets.faq.loss: expected a word, or \{name: <word>"),
        (3, r"^data.datasets.faq.loss: expected a word"),
    ],
)
def test_what_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        own_loss("faq", given)


def test_the_name_of_a_task() -> None:
    with pytest.raises(ConfigError, match=r"data.datasets.sts.loss: .* cannot have the name of a task. Rename it"):
        own_loss("sts", "cosent")
