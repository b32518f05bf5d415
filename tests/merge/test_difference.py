import pytest

from lightning_embed.merge.checkpoint.difference import Difference, differences, shown


@pytest.mark.parametrize(
    ("first", "other"),
    [
        ({}, {}), ({"a": 1}, {"b": 2}), ({"a": 1}, {"a": 1.0}), ({"a": 1e-5}, {"a": 1.0000000001e-5}),
        ({"a": None}, {"a": False}), ({"a": 0}, {"a": None}), ({"a": None}, {"a": []}), ({"a": {"b": 1}}, {"a": {"c": 2}}),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2, "c": 3}]}), ({"a": "x"}, {"a": "x"}),
    ],
)  # fmt: skip
def test_equal_in_meaning(first: object, other: object) -> None:
    assert list(differences(first, other)) == []


@pytest.mark.parametrize(
    ("first", "other", "keys"),
    [
        ({"a": 1}, {"a": 2}, ["a"]), ({"a": 1e-12}, {"a": 1e-5}, ["a"]), ({"a": None}, {"a": 1}, ["a"]),
        ({"a": None}, {"a": True}, ["a"]), ({"a": {"b": 1, "c": 2}}, {"a": {"b": 2, "c": 3}}, ["a.b", "a.c"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a.1"]), ({"a": [1]}, {"a": [1, 2]}, ["a"]), ({"a": {"b": 1}}, {"a": 1}, ["a"]),
        ({"a": "gelu"}, {"a": "relu"}, ["a"]), ({"a": "1"}, {"a": 1}, ["a"]), ({"a": 0}, {"a": 1}, ["a"]),
    ],
)  # fmt: skip
def test_different(first: object, other: object, keys: list[str]) -> None:
    assert [each.key for each in differences(first, other)] == keys
    assert [each.key for each in differences(other, first)] == keys


@pytest.mark.parametrize(
    ("entry", "allowed"),
    [("rope", True), ("rope.theta", True), ("rope.theta.x", False), ("rop", False), ("theta", False), ("", False)],
)
def test_an_entry_of_allow_names_a_key_or_one_above_it(entry: str, allowed: bool) -> None:
    assert Difference("rope.theta", "1", "2").allowed_by(entry) is allowed


def test_long_values_are_cut() -> None:
    assert shown("x" * 100) == '"' + "x" * 39 + "..."
    assert shown({"a": "\u00e9"}) == '{"a": "\u00e9"}'
