"""Differences between the settings of two models."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_SHOWN = 40  # letters of a value


@dataclass(frozen=True)
class Difference:
    """A setting with two values.

    Args:
        key: dotted name of the setting, as `merge.allow` takes it.
        first: its value in the first model, for messages.
        other: its value in the other model.
        harmless: whether the same weights compute the same with both values.
    """

    key: str
    first: str
    other: str
    harmless: bool = False

    def __str__(self) -> str:
        return f"{self.key} is {self.first} and {self.other}"

    def allowed_by(self, entry: str) -> bool:
        """Whether an entry of `merge.allow` names this key, or a key above it."""
        return f"{self.key}.".startswith(f"{entry}.")


def differences(first: Any, other: Any, key: str = "") -> Iterator[Difference]:
    """The differences of two JSON values. What only one of them has is no difference: its default is unknown."""
    if isinstance(first, Mapping) and isinstance(other, Mapping):
        for name in (name for name in first if name in other):
            yield from differences(first[name], other[name], f"{key}.{name}" if key else str(name))
    elif isinstance(first, list) and isinstance(other, list) and len(first) == len(other):
        for number, (left, right) in enumerate(zip(first, other, strict=True)):
            yield from differences(left, right, f"{key}.{number}")
    elif not _equal(first, other):
        yield Difference(key, shown(first), shown(other))


def _equal(one: Any, other: Any) -> bool:
    """Equality, except for spelling: the last digits of numbers, and null, false, 0 or nothing for what is off."""
    if one is None or other is None:
        return not one and not other
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)


def shown(value: Any) -> str:
    """A value as JSON in a message; of a long one, the beginning."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
