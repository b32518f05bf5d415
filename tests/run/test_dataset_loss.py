"""`data.datasets.x.loss=`: a loss of a dataset, beside that of its task."""

from pathlib import Path

import pytest
import torch

from lightning_embed.card.origin import Origin
from lightning_embed.config.compose import check_command
from lightning_embed.errors import ConfigError
from lightning_embed.run import train
from tests.run.test_fit import _weights
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

OWN = "data.datasets.facts.loss={name: infonce, temperature: 0.3}"
QUIET = ("experts=joint", "merge=none", "evaluation=none", "logger=none")


@pytest.mark.filterwarnings("ignore")
def test_a_run(tiny_model: Path, tmp_path: Path) -> None:
    """The weights are those of the run in which the task has that loss; the card names it by the dataset."""
    toy = write_toy(tmp_path / "toy")
    given = {
        "own": OWN,
        "of the task": "retrieval_loss.temperature=0.3",
        "neither": "retrieval_loss.temperature=0.05",
    }
    for name, option in given.items():
        train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / name, *QUIET, option)))
    found = {name: _weights(tmp_path / name / "models/joint") for name in given}
    assert torch.equal(found["own"], found["of the task"])
    assert not torch.equal(found["own"], found["neither"])
    training = Origin.of(str(tmp_path / "own/models/joint")).training
    assert training is not None
    assert training.losses["facts"] == {**training.losses["facts"], "name": "infonce", "temperature": 0.3}
    assert training.losses["sts"]["name"] == "cosent"
    assert "retrieval" not in training.losses


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "data.datasets.facts.loss=pearson",
            r"data.datasets.facts.loss: Pearson cannot train retrieval: it supports sts",
        ),
        ("data.datasets.facts.loss=infonse", r"data.datasets.facts.loss=infonse: no such choice. Did you mean"),
        ("data.datasets.facts.loss={name:infonce,temperature:-1}", r"temperature must be"),
    ],
)
def test_refused_before_anything_is_read(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_command("train", [option])
