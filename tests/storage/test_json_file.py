"""JSON of a wrong shape is found where it is read: one sentence with file, place, expected and found."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import pytest
from typing_extensions import TypedDict

from lightning_embed.errors import CheckpointError, DataError
from lightning_embed.storage.json_file import WrongShape, cached_json, parsed, read_json


class Score(TypedDict):
    score: float
    more: NotRequired[dict[str, float]]


@dataclass(frozen=True)
class Record:
    names: list[str]
    step: int
    score: Score | None = None


NOT_JSON: dict[str, bytes] = {
    "nothing": b"", "blank": b" \n", "half": b'{"a": [1', "not UTF-8": b'{"a": "\xff"}', "words": b"not it",
    "two values": b"{} {}", "deep": b"[" * 10**5, "zeros": bytes(100), "a zip": b"PK\x03\x04", "a number too long": b"1" * 5000,
    "a single quote": b"{'a': 1}",
}  # fmt: skip
WRONG: list[tuple[Any, Any, str]] = [
    (dict, [], "expected an object, found []"),
    (dict, None, "expected an object, found None"),
    (dict, "a", "expected an object, found 'a'"),
    (list, {}, "expected a list, found {}"),
    (list[str], ["a", 1], "1: "),
    (dict[str, str], {"a": None}, "a: "),
    (dict[str, float], {"a": "1"}, "a: "),
    (dict[str, float], {"a": True}, "a: "),
    (dict[str, Score], {"a": {"score": 1}, "b": {}}, "b.score: is missing"),
    (Score, {"score": None}, "score: "),
    (Score, {"score": 1, "more": []}, "more: "),
    (Score, [1], ""),
    (Record, {"names": [], "step": 1.5}, "step: "),
    (Record, {"names": "ab", "step": 1}, "names: "),
    (Record, {"names": ["a"], "step": 1, "score": {"score": "high"}}, "score.score: "),
    (Record, {"names": ["a"] * 1000, "step": ["b" * 1000]}, "step: "),
    (int | None, "1", ""),
]
RIGHT: list[tuple[Any, Any]] = [
    (dict, {"a": 1}), (list, []), (object, "a"), (Score, {"score": 1}), (Score, {"score": 0.5, "unknown": []}),
    (Record, {"names": [], "step": 2, "score": None, "later": 1}), (dict[str, float], {}), (int | None, None),
]  # fmt: skip


@pytest.mark.parametrize("kind", NOT_JSON)
def test_what_is_no_json(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(NOT_JSON[kind])
    with pytest.raises(CheckpointError, match=r"a\.json: expected JSON, .*\. Delete it\.$") as refused:
        read_json(file, dict, "Delete it.")
    assert len(str(refused.value)) < 400
    assert cached_json(file, dict) is None


@pytest.mark.parametrize(("shape", "value", "place"), WRONG)
def test_a_wrong_shape(shape: Any, value: Any, place: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(value))
    with pytest.raises(DataError) as refused:
        read_json(file, shape, "Delete it.", DataError)
    message = str(refused.value)
    assert message.startswith(f"{file}: {place}")
    assert message.endswith(" Delete it.")
    assert "\n" not in message
    assert len(message) < 300
    assert cached_json(file, shape) is None


@pytest.mark.parametrize(("shape", "value"), RIGHT)
def test_a_right_shape_is_returned_as_it_is(shape: Any, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(value))
    assert read_json(file, shape, "") == cached_json(file, shape) == value


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert cached_json(tmp_path / "none", dict) is None
    assert cached_json(tmp_path / "folder", dict) is None
    with pytest.raises(CheckpointError, match=r"^its name: expected a JSON file, found a folder. Delete it.$"):
        read_json(tmp_path / "folder", dict, "Delete it.", name="its name")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none", dict, "")


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}'])
def test_a_cache_has_finite_numbers_alone(text: str) -> None:
    with pytest.raises(WrongShape, match=r"expected JSON, found -?[NI]"):
        parsed(text, object, finite=True)
    parsed(text, object)  # the configurations of some models have them
