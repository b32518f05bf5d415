"""Registry of classes by room and word: `@register("merge", "ties")` makes a class the choice `merge=ties`.

A registered class is a frozen dataclass: its fields are its options, their annotations are the types that Hydra checks,
and `__post_init__` refuses invalid values. The registry does not import Hydra; `config.schema` publishes its entries.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from lightning_embed.errors import RegistryError, nearest

ROOMS = ("loss", "sampler", "experts", "merge")

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
    """
    name = str(options["name"])
    cls = get(room, name)
    known = {field.name for field in fields(cls) if field.init}
    values = {key: value for key, value in options.items() if key != "name"}
    for key in values.keys() - known:
        raise RegistryError(f"{room}={name} has no option {key!r}. {nearest(key, known)}")
    return cls(**values)
