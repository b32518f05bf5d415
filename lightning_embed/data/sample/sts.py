"""The STS task `phrases`: pairs of sentences, graded by the overlap of their statements.

    5  the same fact in other words
    4  the same fact, but one side adds a second one
    3  the same entity and relation, but one side only rules out a wrong value
    2  two facts about one entity
    1  the same relation of two entities
    0  facts from two domains

Grades 3 and 1 keep the wording, the others change it and may describe the entity instead of naming it: shared words
mislead.
"""

from random import Random
from typing import TypedDict

from lightning_embed.data.sample.knowledge import Fact, Neighbours, Split, facts_of, phrasings
from lightning_embed.runtime.seeding import derive_seed

NUM_PAIRS: dict[Split, int] = {"train": 2400, "dev": 240, "test": 720}
DESCRIBED_SHARE = 0.5
DENIALS = (
    "It is not true that {}",
    "It would be wrong to say that {}",
    "Nobody should believe that {}",
    "It is a mistake to think that {}",
)


class Pair(TypedDict):
    """Two sentences and their grade."""

    text1: str
    text2: str
    score: int


class Writer:
    """Draws the pairs of one split; each grade is a method."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.rng = Random(derive_seed("phrases", split))
        self.facts = facts_of(split)
        self.neighbours = Neighbours(self.facts)

    def same_fact(self) -> tuple[str, str]:
        """Draw a pair of grade 5."""
        fact = self.rng.choice(self.facts)
        first, second = self._phrasings(fact, 2)
        return fact.render(first), fact.render(second, self._describe(fact))

    def added_fact(self) -> tuple[str, str]:
        """Draw a pair of grade 4."""
        fact = self.rng.choice(self.facts)
        added = self.rng.choice(self.neighbours.about(fact))
        first, second = self._phrasings(fact, 2)
        return f"{fact.render(first)} {self._tell(added)}", fact.render(second, self._describe(fact, added))

    def denial(self) -> tuple[str, str]:
        """Draw a pair of grade 3."""
        fact = self.rng.choice([fact for fact in self.facts if fact.relation.exact])
        wrong = self.rng.choice([other for other in self.neighbours.alike(fact) if other.value != fact.value])
        phrasing = self._phrasings(fact, 1)[0]
        inside = phrasing if phrasing.startswith("{") else phrasing[0].lower() + phrasing[1:]
        denied = self.rng.choice(phrasings(DENIALS, self.split)).format(inside)
        return fact.render(phrasing), fact.render(denied, value=wrong.value)

    def other_relation(self) -> tuple[str, str]:
        """Draw a pair of grade 2."""
        fact = self.rng.choice(self.facts)
        other = self.rng.choice(self.neighbours.about(fact))
        return self._tell(fact), self._tell(other, self._describe(other, fact))

    def other_entity(self) -> tuple[str, str]:
        """Draw a pair of grade 1."""
        fact = self.rng.choice(self.facts)
        other = self.rng.choice(self.neighbours.alike(fact))
        phrasing = self._phrasings(fact, 1)[0]
        return fact.render(phrasing), other.render(phrasing)

    def other_domain(self) -> tuple[str, str]:
        """Draw a pair of grade 0."""
        fact = self.rng.choice(self.facts)
        other = self.rng.choice([other for other in self.facts if other.entity.domain != fact.entity.domain])
        return self._tell(fact), self._tell(other, self._describe(other))

    def _phrasings(self, fact: Fact, num: int) -> list[str]:
        return self.rng.sample(phrasings(fact.relation.tell, self.split), num)

    def _tell(self, fact: Fact, clue: str | None = None) -> str:
        return fact.render(self._phrasings(fact, 1)[0], clue)

    def _describe(self, fact: Fact, *others: Fact) -> str | None:
        """Return a clue for a share of the calls, never one that quotes a fact of the other sentence."""
        clues = [clue for clue in fact.clues if clue not in [other.relation.name for other in others]]
        return self.rng.choice(clues) if clues and self.rng.random() < DESCRIBED_SHARE else None


GRADES = (
    Writer.other_domain,
    Writer.other_entity,
    Writer.other_relation,
    Writer.denial,
    Writer.added_fact,
    Writer.same_fact,
)
"""`GRADES[score]` draws a pair of this score."""


def make_pairs(split: Split) -> list[Pair]:
    """Return distinct pairs of `split`, equally many of every grade, in random order."""
    writer = Writer(split)
    drawn: dict[tuple[str, str], int] = {}
    while len(drawn) < NUM_PAIRS[split]:
        score = len(drawn) % len(GRADES)
        drawn[GRADES[score](writer)] = score
    pairs = []
    for texts, score in drawn.items():
        first, second = writer.rng.sample(texts, 2)
        pairs.append(Pair(text1=first, text2=second, score=score))
    writer.rng.shuffle(pairs)
    return pairs
