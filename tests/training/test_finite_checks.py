"""A checkpoint of weights that are not finite is refused, with its trainer and without one."""

from pathlib import Path

import pytest
import torch

from lightning_embed import EmbeddingModule
from lightning_embed.errors import TrainingError


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_that_is_not_finite_is_refused(value: float, checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    name = next(iter(content["state_dict"]))
    content["state_dict"][name][0, 0] = value
    torch.save(content, tmp_path / "bad.ckpt")
    with pytest.raises(TrainingError, match=rf"The checkpoint has NaN or infinity in {name}"):
        EmbeddingModule.load_from_checkpoint(tmp_path / "bad.ckpt")
