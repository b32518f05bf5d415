"""Registry of classes by room and word: `@register("merge", "ties")` makes a class the choice `merge=ties`.

A registered class is a frozen dataclass: its fields are its options, their annotations are the types that Hydra checks,
and `__post_init__` refuses invalid values. The registry does not import Hydra; `config.schema` publishes its entries.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from lightning_embed.errors import ConfigError, RegistryError, nearest

ROOMS = ("loss", "sampler", "experts", "merge")
LEAST, MOST = 1e-30, 1e9
"""Absolute numbers of an option, 0 aside: up to more than any count of rows, and far from the ends of float32."""

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """A registered class and its source location."""

    room: str
    name: str
    cls: type[Any]
    origin: str

    @property
    def summary(self) -> str:
        """First line of the class docstring, printed by `--help`."""
        return (inspect.getdoc(self.cls) or "").partition("\n")[0]


_entries: dict[tuple[str, str], Entry] = {}


def register(room: str, name: str) -> Callable[[type[T]], type[T]]:
    """Register the decorated frozen dataclass as `<room>=<name>`.

    Raises:
        RegistryError: unknown room, a class that is no frozen dataclass, or a word with a different owner.
    """
    if room not in ROOMS:
        raise RegistryError(f"Cannot register {name!r}: no room {room!r}. {nearest(room, ROOMS)}")

    def add(cls: type[T]) -> type[T]:
        if not is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise RegistryError(
                f"{room}={name}: {cls.__qualname__} must be a frozen dataclass: "
                "put @dataclass(frozen=True) below @register."
            )
        entry = Entry(room, name, cls, f"{inspect.getsourcefile(cls)}:{cls.__qualname__}")
        owner = _entries.setdefault((room, name), entry)
        if owner.origin != entry.origin:
            raise RegistryError(f"{room}={name} has two owners: {owner.origin} and {entry.origin}. Rename one of them.")
        _entries[room, name] = entry  # the same file imported again
        return cls

    return add


def entries(room: str) -> Iterator[Entry]:
    """All entries of a room, by name."""
    return (entry for _, entry in sorted(_entries.items()) if entry.room == room)


def names(room: str) -> list[str]:
    """All words of a room."""
    return [entry.name for entry in entries(room)]


def get(room: str, name: str) -> type[Any]:
    """The class registered as `<room>=<name>`.

    Raises:
        RegistryError: no such word; the message lists the nearest ones.
    """
    if (room, name) not in _entries:
        raise RegistryError(f"No {room}={name}. {nearest(name, names(room))}")
    return _entries[room, name].cls


def build(room: str, options: Mapping[str, Any]) -> Any:
    """Build `options["name"]` of a room from the remaining options.

    Raises:
        RegistryError: unknown name or unknown option.
        ConfigError: a number that is NaN, infinite, or outside `LEAST` to `MOST`, in any option.
    """
    name = str(options["name"])
    cls = get(room, name)
    known = {field.name for field in fields(cls) if field.init}
    values = {key: value for key, value in options.items() if key != "name"}
    for key in values.keys() - known:
        raise RegistryError(f"{room}={name} has no option {key!r}. {nearest(key, known)}")
    for key, value in values.items():
        for problem in number_problems(key, value, LEAST, MOST):
            raise ConfigError(f"{room}={name}: {problem}")
    return cls(**values)


def number_problems(option: str, value: object, least: float = 0.0, most: float = math.inf) -> Iterator[str]:
    """One sentence for each number of an option, in lists and mappings too, that is not finite or out of range."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from number_problems(f"{option}.{key}", item, least, most)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from number_problems(f"{option}[{number}]", item, least, most)
    elif isinstance(value, (int, float)) and value and not (abs(value) < math.inf and least <= abs(value) <= most):
        bounds = "" if most == math.inf else f": 0, or from {least:g} to {most:g}, with either sign"
        yield f"{option}={value} must be a finite number{bounds}."
