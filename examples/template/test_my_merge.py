"""What it computes, and what it refuses."""

import pytest
import torch
from my_merge import Halfway

from lightning_embed.errors import ConfigError


def test_it_equals_the_formula() -> None:
    """On numbers that can be checked by hand."""
    base, sources = torch.tensor([0.0, 1.0]), torch.tensor([[2.0, 1.0], [4.0, 3.0]])
    merged = Halfway(share=0.5).merge("weight", sources, base, {}, torch.Generator())
    assert merged.tolist() == [1.5, 1.5]


def test_it_refuses_a_share_out_of_range() -> None:
    """Before a model is read."""
    with pytest.raises(ConfigError, match="share must be in"):
        Halfway(share=2.0)
