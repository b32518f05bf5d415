"""`experts=mixtures` in a whole run: the steps of each expert are those of its mixture."""

import json
from pathlib import Path

import pytest

from lightning_embed.card.origin import Origin
from lightning_embed.config.compose import check_command
from lightning_embed.run import train
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

MIXTURES = "+experts.mixtures={queries: {facts: 2, phrases: 1}, one: {phrases: 1}}"


@pytest.mark.filterwarnings("ignore")  # Lightning warns of itself in a whole run
def test_a_run(tiny_model: Path, tmp_path: Path) -> None:
    toy, out = write_toy(tmp_path / "toy"), tmp_path / "out"
    given = ("experts=mixtures", MIXTURES, "merge=soup", "evaluation=none", "logger=none")
    train.train(_cfg("train", _overrides(tiny_model, toy, out, *given)))
    (record,) = (json.loads(file.read_text()) for file in out.glob("merged/*/merge.json"))
    assert [source["name"] for source in record["sources"]] == ["queries", "one"]
    queries, one = (Origin.of(str(out / "models" / name)).training for name in ("queries", "one"))
    assert queries is not None
    assert one is not None
    assert queries.drawn == {"facts": 4 * 8, "phrases": 2 * 8}, "6 steps of 8 rows, two of three on facts"
    assert one.drawn == {"phrases": 6 * 8}


def test_a_search_over_weights() -> None:
    weight = "+experts.mixtures.one.facts=interval(0.1,5)"
    given = [
        "experts=mixtures",
        "+experts.mixtures.one.phrases=1",
        "merge=none",
        "hydra/sweeper=search",
    ]
    check_command("train", [*given, weight], multirun=True)
