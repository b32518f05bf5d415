"""The loss of a dataset comes before that of its task."""

import pytest

from lightning_embed.errors import ConfigError
from lightning_embed.loss.choice import check_losses, loss_of
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.pearson import Pearson
from lightning_embed.types import Task

OF_TASK, OWN = InfoNCE(temperature=0.1), InfoNCE(temperature=0.2)


def test_a_dataset_of_its_own() -> None:
    losses = {Task.retrieval: OF_TASK, Task.sts: CoSENT(), "faq": OWN}
    assert loss_of(losses, "faq", Task.retrieval) is OWN
    assert loss_of(losses, "squad", Task.retrieval) is OF_TASK
    assert loss_of(losses, "sts", Task.retrieval) is OF_TASK, "a dataset that is called as a task it does not train"


def test_a_loss_that_does_not_fit() -> None:
    check_losses({"faq": OWN}, {"faq": Task.retrieval})
    check_losses({"faq": Pearson()})
    with pytest.raises(ConfigError, match=r"^data.datasets.faq.loss: Pearson cannot train retrieval: it supports sts"):
        check_losses({"faq": Pearson()}, {"faq": Task.retrieval})
