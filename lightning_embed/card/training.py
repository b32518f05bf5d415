"""What an expert was trained on, and how: told in its card, and kept there for whoever merges the expert later."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from lightning_embed.types import BASE


@dataclass(frozen=True)
class Training:
    """One training, in plain values.

    Args:
        rows: of each dataset, the rows of an epoch.
        steps: of the optimiser, without those of the experts that it starts from.
        losses: of each task that is trained: its options, its word as `name`.
        start: the expert that it starts from, or the base.
        options: what else is worth knowing, by the words of people.
        datasets: names on the hub, of those that have one.
        versions: of Python and packages that trained it.
    """

    rows: dict[str, int]
    steps: int
    losses: dict[str, dict[str, Any]]
    start: str = BASE
    options: dict[str, Any] = field(default_factory=dict)
    datasets: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, said: Any) -> "Training | None":
        """From a card, which another version may have written; None: it does not say enough."""
        try:
            return cls(**{item.name: said[item.name] for item in fields(cls) if item.name in said})
        except TypeError:
            return None

    @property
    def dims(self) -> dict[str, list[int]]:
        """Of each task whose loss is a Matryoshka loss: the lengths that embeddings may be cut to."""
        found = {task: matryoshka_dims(loss) for task, loss in self.losses.items()}
        return {task: dims for task, dims in found.items() if dims}


def matryoshka_dims(loss: Mapping[str, Any]) -> list[int]:
    """The lengths of a Matryoshka loss, also of one inside another loss; empty: it is none."""
    if loss.get("name") == "matryoshka":
        return list(loss["dims"])
    inner = loss.get("loss")
    return matryoshka_dims(inner) if isinstance(inner, Mapping) else []


def cuts(trainings: Mapping[str, Training]) -> list[int]:
    """The lengths that every task of every model was trained for, longest first; empty: there are none."""
    lengths = [set(each.dims.get(task, ())) for each in trainings.values() for task in each.losses]
    return sorted(set.intersection(*lengths), reverse=True) if lengths else []


def written(options: Mapping[str, Any]) -> str:
    """A registered class with its options, and those in it, on one line."""
    inner = [
        f"{key}={written(value) if isinstance(value, Mapping) and 'name' in value else value}"
        for key, value in options.items()
        if key != "name"
    ]
    return f"{options['name']}({', '.join(inner)})"
