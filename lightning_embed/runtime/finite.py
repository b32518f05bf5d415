"""NaN and infinity: weights with them are never a model, and embeddings with them are never a score."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_embed.runtime import shards

_SHOWN = 60  # characters of a text


def is_finite(values: Float[Tensor, "..."]) -> bool:
    """Whether all values are finite. The sum is tested first, which is four times as fast; it may overflow."""
    return bool(values.sum(dtype=torch.float32).isfinite()) or bool(values.isfinite().all())


def first_not_finite(module: nn.Module) -> str | None:
    """The name of the first parameter with NaN or infinity, of a sharded one in the rows of this rank; None: all are finite.

    The sums of all parameters are tested together, so that a device is waited for once.
    """
    named = {name: shards.local(p.detach()) for name, p in module.named_parameters() if p.is_floating_point()}
    if not named or bool(torch.stack([p.sum(dtype=torch.float32) for p in named.values()]).isfinite().all()):
        return None
    return next((name for name, p in named.items() if not is_finite(p)), None)


def not_finite_texts(embeddings: Float[Tensor, "texts dim"], texts: Sequence[str]) -> str | None:
    """A sentence about embeddings with NaN or infinity, which names the first text; None: all are finite."""
    finite = embeddings.isfinite().all(-1)
    if bool(finite.all()):
        return None
    text = texts[int(finite.int().argmin())]
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return (
        f"expected finite embeddings, got NaN or infinity for {int((~finite).sum())} of {len(texts)} texts, the first "
        f"{shown!r}. Train with a lower learning rate, or give encoder.dtype=float32."
    )
