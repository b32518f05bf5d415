"""Tied weights: matrices that a file holds under two names, because the model uses them twice."""

from collections.abc import Sequence

import torch

from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.contract import Model
from lightning_embed.merge.layer_names import layer_of

_PREFIX = 64  # elements that distinguish almost all pairs of matrices


def tied(models: Sequence[Model]) -> dict[str, str]:
    """Name of a matrix -> an earlier name of the same matrix in all models.

    save_pretrained writes such a matrix once, other programs twice. Random numbers of a strategy must be the same for
    both names, or the two would differ after the merge.
    """
    first: dict[tuple[object, ...], list[str]] = {}
    found = {}
    for name, shape in models[0].parameters.items():
        if len(shape) != 2:
            continue  # vectors are often equal by chance: biases of 0, norms of 1
        key = (*shape, *models[0].tensor(name).flatten()[:_PREFIX].tolist())
        earlier = next((n for n in first.get(key, []) if _equal(models, n, name)), None)
        if earlier is None:
            first.setdefault(key, []).append(name)
        else:
            found[name] = earlier
    return found


def one_in_the_model(models: Sequence[ModelDirectory]) -> dict[str, str]:
    """Those of `tied` that the architecture ties: in the body, and not both in numbered layers, which may be copies."""

    def counts(name: str) -> bool:
        return layer_of(name) == name.partition(".")[0]

    return {
        name: other
        for name, other in tied(models).items()
        if (counts(name) or counts(other)) and not (models[0].is_beside(name) or models[0].is_beside(other))
    }


def _equal(models: Sequence[Model], one: str, other: str) -> bool:
    return all(torch.equal(model.tensor(one), model.tensor(other)) for model in models)
