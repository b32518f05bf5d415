"""Texts of a test set are found in rows whatever their spelling, and no others are."""

import random
from collections.abc import Sequence

import pytest

from lightning_embed.data.overlap import LEAST_LETTERS, LEAST_SIMILARITY, TextIndex, similarity

WORDS = [
    "river",
    "stone",
    "window",
    "garden",
    "letter",
    "market",
    "winter",
    "silver",
    "travel",
    "music",
    "coffee",
    "bridge",
    "doctor",
    "forest",
    "planet",
    "engine",
]


def _passage(seed: int, words: int = 60) -> str:
    draw = random.Random(seed)
    return " ".join(f"{draw.choice(WORDS)}{draw.randrange(100)}" for _ in range(words)) + "."


def _found(tests: Sequence[str], *rows: Sequence[str]) -> list[tuple[int, int, int, bool]]:
    return [(f.row, f.place, f.test, f.is_equal) for f in TextIndex(tests).find(rows)]


EQUAL = {
    "itself": "Who wrote Emma?",
    "case": "WHO WROTE EMMA?",
    "white space": "  who  wrote\temma \n",
    "no punctuation": "who wrote emma",
    "other punctuation": "«Who wrote 'Emma'?!»",
    "full width": "\uff37\uff48\uff4f wrote Emma\uff1f",
    "no-break space": "who\u00a0wrote\u2009emma",
    "zero width": "who wro\u200bte emma",
    "joined": "whowroteemma",
}
OTHER = ["Who wrote Persuasion?", "Who wrote Emma 2?", "Who wrote Emm?", "wrote Emma", "", "?!", " "]


@pytest.mark.parametrize("kind", EQUAL)
def test_equal_but_for_case_space_and_punctuation(kind: str) -> None:
    tests = ["another text", "Who wrote Emma?"]
    assert _found(tests, ["x"], ["y", EQUAL[kind]]) == [(1, 1, 1, True)]


@pytest.mark.parametrize("text", OTHER)
def test_other_short_texts_are_not_found(text: str) -> None:
    assert _found(["Who wrote Emma?", "...", _passage(1)], [text]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("Straße 5", "STRASSE 5"), ("Кто написал «Анну»?", "кто написал анну"), ("誰が書いた\uff1f", "誰が\u3000書いた"), ("cafe\u0301", "Café"),
     ("a + b", "a+b")],
)  # fmt: skip
def test_scripts(one: str, other: str) -> None:
    assert _found([one], [other]) == [(0, 0, 0, True)]


@pytest.mark.parametrize(("one", "other"), [("a + b", "a - b"), ("кит", "кот"), ("हिंदी", "हद"), ("-", "?")])
def test_signs_and_vowels_count(one: str, other: str) -> None:
    assert _found([one], [other]) == []


def _edited(text: str, edits: int, seed: int) -> str:
    draw, letters = random.Random(seed), list(text)
    for place in draw.sample(range(len(letters)), edits):
        letters[place] = draw.choice(["", draw.choice("qxz"), letters[place] + draw.choice("qxz")])
    return "".join(letters)


@pytest.mark.parametrize("words", [16, 20, 30, 60, 200, 1000])
def test_passages_with_edits_are_found_if_they_are_similar(words: int) -> None:
    """All pairs that are similar enough, by a comparison with every text."""
    tests = [_passage(seed, words) for seed in range(20)]
    similar, found = 0, 0
    for seed, text in enumerate(tests):
        other = _edited(text, 1 + seed * len(text) // 1200, seed)
        is_similar = similarity(text, other) >= LEAST_SIMILARITY
        hits = _found(tests, [other])
        assert not hits or (is_similar and hits == [(0, 0, seed, False)])
        similar, found = similar + is_similar, found + len(hits)
    assert similar >= 8
    assert found == similar


def test_a_part_of_a_text_or_another_order_is_another_text() -> None:
    text = _passage(1)
    halves = text[: len(text) // 2], text[len(text) // 2 :]
    shuffled = " ".join(sorted(text.split()))
    assert _found([text], [halves[0]], [halves[1]], [f"{text} {_passage(2)}"], [shuffled], [_passage(3)]) == []
    assert _found([text], [halves[1] + " " + halves[0]]) == [(0, 0, 0, False)], (
        "the letters are the same but for one seam"
    )


def test_similar_texts_without_a_long_text_are_not_compared() -> None:
    question = "which city on the river is the capital of the region of {}"
    assert len(question) < LEAST_LETTERS
    assert _found([question.format("Fiji")], [question.format("Cuba")]) == []


def test_many_texts_with_the_same_words() -> None:
    """A phrase that is in all texts leads to none of them."""
    phrase = "in the middle of the nineteenth century the people of this town "
    tests = [f"{phrase} {_passage(seed, 30)}" for seed in range(300)]
    rows = [[f"{phrase} {_passage(seed, 30)}"] for seed in range(290, 600)]
    assert _found(tests, *rows) == [(row, 0, 290 + row, True) for row in range(10)]
    near = [[_edited(text, 3, seed)] for seed, text in enumerate(tests)]
    assert [hit[2] for hit in _found(tests, *near)] == list(range(300))


def test_parts_of_the_data_do_not_matter() -> None:
    """Texts are searched a thousand at a time; the row and the place of each are right across the cuts."""
    tests = [_passage(seed, 25) for seed in range(1500)]
    rows = [
        [f"query {row}", *(_edited(tests[row], 2, row) if row % 7 == 0 else f"text {row}" for _ in range(2))]
        for row in range(1500)
    ]
    found = [hit[:3] for hit in _found(tests, *rows)]
    assert found == [(row, place, row) for row in range(0, 1500, 7) for place in (1, 2)]


def test_equal_texts_of_the_tests_have_one_number() -> None:
    index = TextIndex(["one text", "Two", "One text.", "two!", "three"])
    assert index.first == [0, 1, 0, 1, 4]


def test_no_tests() -> None:
    assert _found([], ["a text"], [_passage(1)]) == []
    assert _found(["", "?"], [""], ["?"]) == []
