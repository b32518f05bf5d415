"""Facts of a training, for the card of the expert; a later merge of the expert reads them back from there."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from lightning_embed.types import BASE


@dataclass(frozen=True)
class Training:
    """One training, in plain values.

    Args:
        rows: dataset -> its train rows.
        steps: of the optimiser, without those of the experts that it starts from.
        losses: task, or dataset with a loss of its own -> options of the loss, with its word as `name`.
        start: name of the expert that it starts from, or the base.
        options: more facts, name -> value, as the card shows them.
        datasets: names on the hub, of the datasets that have one.
        versions: of Python and the packages of the training.
        seen: dataset -> rows that were drawn in these steps, 0 of one that was not reached.
        drawn: the same with repetitions. Empty, like `seen`, in cards of earlier versions, which do not know it.
    """

    rows: dict[str, int]
    steps: int
    losses: dict[str, dict[str, Any]]
    start: str = BASE
    options: dict[str, Any] = field(default_factory=dict)
    datasets: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    drawn: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, metadata: Any) -> "Training | None":
        """The training in a card's front matter; None: a required fact is missing, as in a card of another version."""
        try:
            return cls(**{item.name: metadata[item.name] for item in fields(cls) if item.name in metadata})
        except TypeError:
            return None

    @property
    def trained_on(self) -> list[str]:
        """The datasets of which it has seen rows; in cards of earlier versions, those that it was given."""
        return [name for name in self.rows if not self.seen or self.seen.get(name)]

    def rows_seen(self) -> list[tuple[str, str, str, str]]:
        """Of each dataset: its name, train rows, rows seen, and how often each of these was drawn."""
        return [
            (name, f"{rows:,}", f"{seen:,}", f"{self.drawn[name] / seen:.2f}" if seen else "0")
            for name, rows in self.rows.items()
            if (seen := self.seen.get(name)) is not None
        ]

    @property
    def dims(self) -> dict[str, list[int]]:
        """Task -> the lengths to which embeddings may be cut, for each task with a Matryoshka loss."""
        found = {task: matryoshka_dims(loss) for task, loss in self.losses.items()}
        return {task: dims for task, dims in found.items() if dims}


def matryoshka_dims(loss: Mapping[str, Any]) -> list[int]:
    """The lengths of a Matryoshka loss, also of one inside another loss; empty: no Matryoshka loss."""
    if loss.get("name") == "matryoshka":
        return list(loss["dims"])
    inner = loss.get("loss")
    return matryoshka_dims(inner) if isinstance(inner, Mapping) else []


def cuts(trainings: Mapping[str, Training]) -> list[int]:
    """The lengths for which every task of every model was trained, longest first; empty: no common length."""
    lengths = [set(each.dims.get(task, ())) for each in trainings.values() for task in each.losses]
    return sorted(set.intersection(*lengths), reverse=True) if lengths else []


def written(options: Mapping[str, Any]) -> str:
    """A registered class with its options, nested classes included, on one line."""
    inner = [
        f"{key}={written(value) if isinstance(value, Mapping) and 'name' in value else value}"
        for key, value in options.items()
        if key != "name"
    ]
    return f"{options['name']}({', '.join(inner)})"
