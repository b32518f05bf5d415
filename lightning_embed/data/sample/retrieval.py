"""The retrieval task `facts`: find the sentence that answers a question about an entity.

Questions name the entity or describe it, and differ in wording from the statements, so that shared words mislead. Near
misses are the entity's other facts, first the one that the description quotes, and the same relation of other entities.
"""

from random import Random
from typing import TypedDict

from lightning_embed.data.sample.knowledge import Fact, Neighbours, Split, facts_of, phrasings
from lightning_embed.runtime.seeding import derive_seed

NUM_DEV_ROWS = 250
NUM_TEST_QUERIES = 400


class Row(TypedDict):
    """A question, the sentence that answers it, and near misses, the hardest first."""

    query: str
    positives: list[str]
    negatives: list[str]


class TestSet(TypedDict):
    """The three parts of a retrieval test: a text per document id, a text per query id, relevant (query, document)."""

    corpus: dict[str, str]
    queries: dict[str, str]
    qrels: list[tuple[str, str]]


def make_rows(split: Split) -> list[Row]:
    """Return a row per fact of `split` and way of referring to its entity, in random order."""
    rng = Random(derive_seed("facts", split))
    facts = facts_of(split)
    documents = _tell(facts, split, rng)
    neighbours = Neighbours(facts)
    rows = [
        Row(
            query=_ask(fact, clue, split, rng),
            positives=[documents[fact]],
            negatives=list(dict.fromkeys(documents[other] for other in _near_misses(fact, clue, neighbours, rng))),
        )
        for fact in facts
        for clue in _references(fact, rng)
    ]
    rng.shuffle(rows)
    return rows if split == "train" else rows[:NUM_DEV_ROWS]


def make_test() -> TestSet:
    """Return the test set: one document per fact, and questions about a sample of the facts."""
    rng = Random(derive_seed("facts", "test"))
    facts = facts_of("test")
    documents = _tell(facts, "test", rng)
    ids = {fact: f"d{i}" for i, fact in enumerate(facts)}
    asked = {f"q{i}": fact for i, fact in enumerate(rng.sample(facts, NUM_TEST_QUERIES))}
    return TestSet(
        corpus={ids[fact]: text for fact, text in documents.items()},
        queries={query: _ask(fact, rng.choice(_references(fact, rng)), "test", rng) for query, fact in asked.items()},
        qrels=[(query, ids[fact]) for query, fact in asked.items()],
    )


def _tell(facts: list[Fact], split: Split, rng: Random) -> dict[Fact, str]:
    return {fact: fact.render(rng.choice(phrasings(fact.relation.tell, split))) for fact in facts}


def _ask(fact: Fact, clue: str | None, split: Split, rng: Random) -> str:
    return fact.render(rng.choice(phrasings(fact.relation.ask, split)), clue)


def _references(fact: Fact, rng: Random) -> list[str | None]:
    """Return the ways to refer to the entity: its name (None), and one clue if it has any."""
    return [None, rng.choice(fact.clues)] if fact.clues else [None]


def _near_misses(fact: Fact, clue: str | None, neighbours: Neighbours, rng: Random) -> list[Fact]:
    about, alike = neighbours.about(fact), neighbours.alike(fact)
    rng.shuffle(about)
    about.sort(key=lambda other: other.relation.name != clue)  # the quoted fact first
    return [about[0], rng.choice(alike), about[1], rng.choice(alike)]
