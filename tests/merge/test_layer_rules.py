from pathlib import Path

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.merge import layer_scales
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe

NAMES = ["embeddings.weight", "layer.0.weight", "layer.1.weight", "layer.10.weight"]


def test_the_first_match_wins_and_the_whole_name_must_match() -> None:
    found = layer_scales([r"layer\.1\..*=0.25", r"layer\.\d+\.weight=-1"], NAMES)
    assert found == {NAMES[0]: 1, NAMES[1]: -1, NAMES[2]: 0.25, NAMES[3]: -1}


def test_an_equals_sign_may_be_in_the_expression() -> None:
    assert layer_scales(["(?=embed).*=0.5"], NAMES)[NAMES[0]] == 0.5


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            ["layer.1=0.5"],
            r"'layer.1=0.5' matches no parameter. A rule must match a whole name, such as 'layer.1.weight'.",
        ),
        ([".*=1", "layer.*=0.5"], r"'layer.\*=0.5' matches no parameter that an earlier rule has not taken"),
        (["layer.*"], r"'layer.\*' is no rule. Write \"<regular expression>=<number>\""),
        (["layer.*=much"], r"is no rule"),
        (["(=1"], r"is no rule"),
        (["a=nan"], r"is no rule"),
    ],
)
def test_refusal(rules: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        layer_scales(rules, NAMES)


def test_a_layer_goes_its_share_of_the_way_from_the_base(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    plain = toy.merge(tmp_path / "plain", toy.strategy("soup"), sources, base)
    rules = [r"embeddings\..*=0", r"encoder\.layer\.0\..*=0.5", r"encoder\.layer\.1\.scale=2"]
    found = toy.merge(tmp_path / "rules", toy.strategy("soup", layers=rules), sources, base)
    shares = {"embeddings.word.weight": 0, "encoder.layer.0.dense.weight": 0.5, "encoder.layer.1.scale": 2}
    for name in toy.SHAPES:
        expected = base[name] + shares.get(name, 0.5 if ".layer.0." in name else 1) * (plain[name] - base[name])
        torch.testing.assert_close(found[name], expected, msg=name)


def test_a_rule_that_matches_nothing_is_told_before_the_work(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    with pytest.raises(ConfigError, match="matches no parameter"):
        toy.merge(tmp_path, toy.strategy("fisher", layers=["typo.*=0.5"]), sources, base, probe=_Untouchable([base]))


class _Untouchable(QuadraticProbe):
    def loss_and_gradient(self, *_: object) -> tuple[float, dict[str, torch.Tensor]]:
        raise AssertionError("the work has begun")


def test_no_base(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"merge=soup: layers=\['.\*=0.5'\] are shares of the way from the base"):
        toy.merge(tmp_path, toy.strategy("soup", layers=[".*=0.5"]), toy.family(2)[1])


TWICE = {"lm_head.weight": "embeddings.weight", "decoder.weight": "embeddings.weight"}
MATRICES = [*NAMES, *TWICE]


@pytest.mark.parametrize("name", ["embeddings.weight", *TWICE])
def test_a_rule_for_one_name_of_a_matrix_counts_for_all(name: str) -> None:
    found = layer_scales([rf"{name}=0.25"], MATRICES, TWICE)
    assert {found["embeddings.weight"], *(found[other] for other in TWICE)} == {0.25}
    assert found["layer.0.weight"] == 1


def test_rules_that_differ_for_one_matrix() -> None:
    assert layer_scales(["emb.*=0.5", "lm.*=0.5"], MATRICES, TWICE)["decoder.weight"] == 0.5
    with pytest.raises(ConfigError, match=r"embeddings.weight=0.5, lm_head.weight=0, but these names are one matrix"):
        layer_scales(["emb.*=0.5", "lm.*=0"], MATRICES, TWICE)
