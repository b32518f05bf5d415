"""Matrices that a file holds under two names, because the model uses one matrix twice."""

from collections.abc import Sequence

import torch

from lightning_embed.merge.contract import Model

_GLANCE = 64  # elements that tell almost all pairs apart


def tied(models: Sequence[Model]) -> dict[str, str]:
    """Name of a matrix -> an earlier name under which all models have the same one.

    save_pretrained writes such a matrix once, other programs twice. What a strategy draws at random for it must be
    drawn once, or the two would part.
    """
    first: dict[tuple[object, ...], list[str]] = {}
    found = {}
    for name, shape in models[0].parameters.items():
        if len(shape) != 2:
            continue  # vectors are often equal by chance: biases of 0, norms of 1
        glance = (*shape, *models[0].tensor(name).flatten()[:_GLANCE].tolist())
        earlier = next((n for n in first.get(glance, []) if _equal(models, n, name)), None)
        if earlier is None:
            first.setdefault(glance, []).append(name)
        else:
            found[name] = earlier
    return found


def _equal(models: Sequence[Model], one: str, other: str) -> bool:
    return all(torch.equal(model.tensor(one), model.tensor(other)) for model in models)
