"""Knowledge base of the sample: tables of real facts, and the questions and statements of each relation.

One file in `tables/` is one domain: `facts` is a table with an entity per row, and every other column is a relation
with its phrasings. `{it}` in a phrasing is the entity, by its name or by a clue that quotes a different value.
"""

import tomllib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from lightning_embed.runtime.seeding import derive_seed

Split = Literal["train", "dev", "test"]

TRAIN_SHARE, DEV_SHARE = 0.5, 0.09
"""Shares of every domain's entities; the test split gets the rest."""


@dataclass(frozen=True, eq=False)
class Relation:
    """A column of a domain, and its phrasings.

    Args:
        name: the column.
        ask: phrasings of the question.
        tell: phrasings of the answer, each a whole sentence.
        clue: noun phrase that identifies the entity by this relation's value; empty: none.
        exact: whether one value excludes every other: with the value of a different entity, the sentence is false.
    """

    name: str
    ask: Sequence[str]
    tell: Sequence[str]
    clue: str = ""
    exact: bool = False


@dataclass(frozen=True, eq=False)
class Entity:
    """A row of a domain: its values by column, and by relation the clues that identify no other row."""

    domain: str
    values: dict[str, str]
    clues: dict[str, str]


@dataclass(frozen=True, eq=False)
class Fact:
    """One relation of one entity."""

    entity: Entity
    relation: Relation

    @property
    def value(self) -> str:
        """The value of the relation."""
        return self.entity.values[self.relation.name]

    @property
    def clues(self) -> list[str]:
        """The relations whose clues point to the entity without giving this fact away."""
        return [name for name, clue in self.entity.clues.items() if self.value not in clue]

    def render(self, phrasing: str, clue: str | None = None, value: str | None = None) -> str:
        """Fill `phrasing`: the entity has its name or the clue of a relation; `value` replaces the true one."""
        it = self.entity.clues[clue] if clue else self.entity.values["name"]
        text = phrasing.format(**{**self.entity.values, self.relation.name: value or self.value, "it": it})
        return text[0].upper() + text[1:]


class Neighbours:
    """Facts that are easily confused with a given one."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._groups: dict[Entity | Relation, list[Fact]] = defaultdict(list)
        for fact in facts:
            self._groups[fact.entity].append(fact)
            self._groups[fact.relation].append(fact)

    def about(self, fact: Fact) -> list[Fact]:
        """Return the other facts about the same entity."""
        return [other for other in self._groups[fact.entity] if other is not fact]

    def alike(self, fact: Fact) -> list[Fact]:
        """Return the same relation of the other entities."""
        return [other for other in self._groups[fact.relation] if other is not fact]


def phrasings(choices: Sequence[str], split: Split) -> Sequence[str]:
    """Return the `choices` of `split`: the last one is for the test only."""
    return choices if split == "test" else choices[:-1]


def facts_of(split: Split) -> list[Fact]:
    """Return all facts about the entities of `split`. The splits share no entity."""
    return [
        Fact(entity, relation)
        for relations, entities in _domains()
        for entity in _share(entities, split)
        for relation in relations
    ]


@cache
def _domains() -> list[tuple[list[Relation], list[Entity]]]:
    tables = sorted(files(__package__).joinpath("tables").iterdir(), key=lambda table: table.name)
    return [_domain(table.name, table.read_text(encoding="utf-8")) for table in tables]


def _domain(name: str, text: str) -> tuple[list[Relation], list[Entity]]:
    content = tomllib.loads(text)
    header, *lines = (line.split(" | ") for line in content.pop("facts").strip().splitlines())
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    relations = [Relation(column, **fields) for column, fields in content.items()]
    clues = [{relation.name: relation.clue.format(**row) for relation in relations if relation.clue} for row in rows]
    times = Counter(clue for row in clues for clue in row.values())
    unique = [{column: clue for column, clue in row.items() if times[clue] == 1} for row in clues]
    return relations, [Entity(name, row, own) for row, own in zip(rows, unique, strict=True)]


def _share(entities: list[Entity], split: Split) -> list[Entity]:
    shuffled = sorted(entities, key=lambda entity: derive_seed("sample", entity.domain, entity.values["name"]))
    dev = round(TRAIN_SHARE * len(shuffled))
    test = round((TRAIN_SHARE + DEV_SHARE) * len(shuffled))
    return {"train": shuffled[:dev], "dev": shuffled[dev:test], "test": shuffled[test:]}[split]
