"""Sentences for the findings of merge.json, of this version and of others."""

import pytest

from lightning_embed.merge.diagnosis.finding import Code
from lightning_embed.report.pages.advice_text import sentence

PAIR = {"sources": ["a", "b"], "cosine": -0.452}
TWO = {"sources": ["a", "b"], "lowest": 0.051, "highest": 0.052, "kept": 0.7152}
THREE = {"sources": ["a", "b", "c"], "lowest": 0.0, "highest": 0.1, "kept": 0.6}

# the facts as the rules give them, and words of the sentence
SENTENCES = [
    (Code.weights_close, {"lowest": 0.99995}, "(cosine of the weights at least 1.000), as fine-tunes of one model do"),
    (Code.weights_unrelated, PAIR, "The weights of 'a' and 'b' have the cosine -0.45: they are not fine-tunes"),
    (Code.all_equal_base, {}, "No source differs from the base: every strategy gives the base back."),
    (
        Code.another_base,
        {"sources": ["a", "b"], "shares_of_base": [1.0, 1.004]},
        "'a' and 'b' lie 1.00 times the base's own length away from it (fine-tunes: below 0.1), but close together: "
        "they started from another model. Give that one as base=.",
    ),
    (
        Code.far_from_base,
        {"sources": ["a"], "shares_of_base": [1.2]},
        "'a' lies 1.20 times the base's own length away from it (fine-tunes: below 0.1). Models that did not start",
    ),
    (
        Code.far_from_base,
        {"sources": ["a", "b", "c"], "shares_of_base": [1.2, 0.8, 1.0]},
        "'a', 'b' and 'c' lie 0.80 to 1.20 times",
    ),
    (Code.near_base, {"sources": ["b"]}, "'b' is the base, or hardly differs from it"),
    (Code.near_base, {"sources": ["b", "c"]}, "'b' and 'c' are the base, or hardly differ from it"),
    (
        Code.parallel,
        {**TWO, "lowest": 0.98, "highest": 0.98, "kept": 1.0},
        "nearly parallel (cosine 0.98): the sources learned the same. An average loses nothing (it keeps 100% of their",
    ),
    (
        Code.orthogonal,
        TWO,
        "nearly orthogonal (cosine 0.05): the sources changed different things. An average keeps 1/2 of each (72% of "
        "their mean length); task_arithmetic with a scale between 0.50 and 1, or self_positioning, can keep more.",
    ),
    (Code.orthogonal, THREE, "(cosines 0.00 to 0.10): the sources changed different things. An average keeps 1/3"),
    (Code.partly_shared, THREE, "share a part of their direction (cosines 0.00 to 0.10): an average keeps that part"),
    (Code.opposed, PAIR, "'a' and 'b' point against each other (cosine -0.45): each undoes"),
    (
        Code.unequal_lengths,
        {"longest": "b", "shortest": "a", "ratio": 3.04},
        "'b' is 3.0 times as long as 'a' and dominates an average. To balance them: weighting=given with a smaller "
        "weight for the long one, or multislerp with of=delta, which merges directions.",
    ),
    (
        Code.few_sign_conflicts,
        {"share": 0.0, "chance": 0.5},
        "Only 0% of the elements that moved have conflicting signs (chance: 50%): the sources moved different ones",
    ),
    (
        Code.near_copies,
        {**PAIR, "cosine": 0.995, "deltas": 3, "directions": 1.88},
        "3 task vectors make up 1.9 independent directions: 'a' and 'b' are nearly one (cosine 0.99) and count twice",
    ),
    (
        Code.outlier_layer,
        {"layer": "layer.2", "source": "b", "ratio": 5.0},
        "layer.2 moved 5 times as far as the median layer in 'b': a rule layers=[...] can hold it back.",
    ),
    (
        Code.opposed_in_layer,
        {**PAIR, "layer": "layer.1"},
        "In layer.1 alone 'a' and 'b' point against each other (cosine -0.45).",
    ),
]


@pytest.mark.parametrize(("code", "facts", "words"), SENTENCES)
def test_the_facts_are_in_the_sentence(code, facts, words):
    text = sentence({"code": str(code), "facts": facts})
    assert words in text
    assert text.endswith(".")


def test_every_code_has_a_sentence():
    assert {code for code, _, _ in SENTENCES} == set(Code)


def test_a_code_of_a_newer_version_is_shown_with_its_facts():
    finding = {"code": "rotated", "facts": {"sources": ["a", "b"], "angle": 0.25}}
    assert sentence(finding) == "rotated: sources ['a', 'b'], angle 0.25"
    assert sentence({"code": "rotated", "facts": {}}) == "rotated"


def test_a_sentence_of_an_earlier_version_is_shown_unchanged():
    assert sentence("The task vectors are nearly orthogonal.") == "The task vectors are nearly orthogonal."
