"""The module refuses losses that do not fit."""

import pytest

from lightning_embed.errors import ConfigError
from lightning_embed.loss.choice import check_losses
from lightning_embed.loss.pearson import Pearson
from lightning_embed.types import Task


def test_a_loss_of_scores_cannot_train_retrieval() -> None:
    with pytest.raises(ConfigError, match="Pearson cannot train retrieval: it supports sts"):
        check_losses({Task.retrieval: Pearson()})
