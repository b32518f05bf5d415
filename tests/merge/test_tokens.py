"""Tokenizers read from their files, and compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.difference import Difference
from lightning_embed.merge.checkpoint.tokens import (
    Tokenizer,
    read_tokenizer,
    same_tokenizer,
    step_differences,
    token_differences,
)

IDS = {"[PAD]": 0, "[UNK]": 1, "red": 2, "cat": 3, "\u2028": 4}


def _file(model: dict[str, Any], **more: Any) -> str:
    return json.dumps({"added_tokens": [{"id": 0, "content": "[PAD]", "special": True}], "model": model, **more})


WORDS = {token: number for token, number in IDS.items() if number}
FILES: dict[str, dict[str, str]] = {
    "wordpiece": {"tokenizer.json": _file({"type": "WordPiece", "vocab": IDS})},
    "added": {"tokenizer.json": _file({"type": "WordLevel", "vocab": WORDS})},
    "bpe": {"tokenizer.json": _file({"type": "BPE", "vocab": IDS, "merges": ["c a", "ca t"]})},
    "unigram": {"tokenizer.json": _file({"type": "Unigram", "vocab": [[token, -1.5] for token in IDS]})},
    "vocab.txt": {"vocab.txt": "\n".join(IDS) + "\n"},
    "vocab.txt-added": {"vocab.txt": "\n".join([*IDS][:3]), "added_tokens.json": json.dumps({"cat": 3, "\u2028": 4})},
    "vocab.json": {"vocab.json": json.dumps(IDS), "merges.txt": "#version: 0.2\nc a\nca t\n"},
    "decoder": {
        "vocab.json": json.dumps(WORDS), "merges.txt": "",
        "tokenizer_config.json": json.dumps({"added_tokens_decoder": {"0": {"content": "[PAD]"}}}),
    },
    "the-file-first": {"tokenizer.json": _file({"vocab": IDS}), "vocab.txt": "something\nelse"},
}  # fmt: skip


def _write(folder: Path, files: dict[str, str]) -> dict[str, Path]:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {name: folder / name for name in files}


def _read(folder: Path, files: dict[str, str]) -> Tokenizer:
    found = read_tokenizer(_write(folder, files))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", FILES)
def test_ids(kind: str, tmp_path: Path) -> None:
    assert _read(tmp_path / "a", FILES[kind]).ids == IDS


@pytest.mark.parametrize("one", FILES)
@pytest.mark.parametrize("other", FILES)
def test_the_same_ids_in_two_forms_are_no_difference(one: str, other: str, tmp_path: Path) -> None:
    first, second = _read(tmp_path / "a", FILES[one]), _read(tmp_path / "b", FILES[other])
    found = [each.key for each in token_differences(first, second, is_base=False)]
    kinds = [tokenizer.model.get("type") for tokenizer in (first, second)]
    assert found == ([] if None in kinds or kinds[0] == kinds[1] else ["tokenizer.type"])


def test_no_tokenizer(tmp_path: Path) -> None:
    assert read_tokenizer({}) is None
    assert read_tokenizer(_write(tmp_path / "a", {"tokenizer_config.json": "{}"})) is None


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "vocab.json"])
def test_broken(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"{name}: expected JSON, .* Copy the tokenizer again."):
        read_tokenizer(_write(tmp_path / "a", {"vocab.json": "{}", name: "{"}))


def test_roles(tmp_path: Path) -> None:
    files = {
        "vocab.txt": "a",
        "special_tokens_map.json": '{"pad_token": {"content": "<pad>"}, "cls_token": "<s>"}',
        "tokenizer_config.json": '{"cls_token": "[CLS]", "mask_token": null}',
    }
    assert _read(tmp_path / "a", files).roles == {"pad_token": "<pad>", "cls_token": "[CLS]"}


def _compared(first: dict[str, int], other: dict[str, int], is_base: bool = False) -> list[Difference]:
    return list(token_differences(Tokenizer(first), Tokenizer(other), is_base=is_base))


@pytest.mark.parametrize(
    ("other", "first_value", "other_value"),
    [
        ({"a": 0, "b": 2, "c": 1}, '"b" with id 1', "id 2 (and 1 more tokens)"),
        ({"a": 1, "b": 2, "c": 3}, '"a" with id 0', "id 1 (and 2 more tokens)"),
        ({"a": 0, "b": 1, "x": 2}, '"c" with id 2', "missing"),
        ({"a": 0, "b": 1}, '"c" with id 2', "missing"),
        ({"x": 0, "y": 1, "z": 2}, '"a" with id 0', "missing (and 2 more tokens)"),
        ({"a": 0, "b": 1, "c": 7, "x": 2}, '"c" with id 2', "id 7"),
    ],
)
def test_tokens_with_other_ids(other: dict[str, int], first_value: str, other_value: str) -> None:
    (found,) = _compared({"a": 0, "b": 1, "c": 2}, other)
    assert found == Difference("tokens", first_value, other_value)


def test_tokens_that_only_the_other_has_are_harmless() -> None:
    (found,) = _compared({"a": 0}, {"a": 0, "x": 1, "y": 2, "z": 3, "zz": 4})
    assert found.harmless
    assert found.other == 'with "x", "y", "z" and 1 more'


@pytest.mark.parametrize(
    ("base", "refused"),
    [({"a": 0}, False), ({"a": 0, "old": 1}, False), ({"a": 1, "new": 0}, True), ({"a": 0, "new": 5}, True)],
)
def test_a_base_may_lack_tokens_and_have_other_ones(base: dict[str, int], refused: bool) -> None:
    assert bool(_compared({"a": 0, "new": 1}, base, is_base=True)) is refused


@pytest.mark.parametrize(
    ("first", "other", "keys"),
    [
        ({"merges": ["a b", "c d"]}, {"merges": [["a", "b"], ["c", "d"]]}, []),
        ({"merges": ["a b", "c d"]}, {"merges": ["c d", "a b"]}, ["tokenizer.merges.0", "tokenizer.merges.1"]),
        ({"merges": ["a b"]}, {"merges": ["a b", "c d"]}, ["tokenizer.merges"]),
        ({"unk_token": "a"}, {"unk_token": "b"}, ["tokenizer.unk_token"]),
        ({"continuing_subword_prefix": "##"}, {"continuing_subword_prefix": ""}, ["tokenizer.continuing_subword_prefix"]),
        ({"byte_fallback": False}, {"byte_fallback": True}, ["tokenizer.byte_fallback"]),
        ({"byte_fallback": False}, {}, []), ({"dropout": None}, {"dropout": 0.1}, []),
        ({"type": "BPE"}, {"type": "WordPiece"}, ["tokenizer.type"]),
        ({"max_input_chars_per_word": 100}, {"max_input_chars_per_word": 10}, ["tokenizer.max_input_chars_per_word"]),
        ({"vocab": [["a", -1.0]]}, {"vocab": [["a", -1.00000001]]}, []),
        ({"vocab": [["a", -1.0]]}, {"vocab": [["a", -2.0]]}, ["tokenizer.scores.a"]),
    ],
)  # fmt: skip
def test_algorithms(first: dict[str, Any], other: dict[str, Any], keys: list[str], tmp_path: Path) -> None:
    one, two = (_read(tmp_path / str(n), {"tokenizer.json": _file(model)}) for n, model in enumerate((first, other)))
    assert [each.key for each in token_differences(one, two, is_base=False)] == keys
    assert list(token_differences(one, two, is_base=True)) == []


@pytest.mark.parametrize(
    ("first", "other", "key"),
    [
        ({"normalizer": {"type": "BertNormalizer", "lowercase": True}}, {"normalizer": {"type": "BertNormalizer", "lowercase": False}}, "tokenizer.normalizer.lowercase"),
        ({"normalizer": {"type": "NFC"}}, {"normalizer": {"type": "NFKC"}}, "tokenizer.normalizer.type"),
        ({"normalizer": None}, {"normalizer": {"type": "NFKC"}}, "tokenizer.normalizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, {"pre_tokenizer": {"type": "ByteLevel"}}, "tokenizer.pre_tokenizer.type"),
        ({"post_processor": {"single": ["[CLS]", "A"]}}, {"post_processor": {"single": ["A"]}}, "tokenizer.post_processor.single"),
        ({"added_tokens": [{"id": 0, "content": "x", "lstrip": True}]}, {"added_tokens": [{"id": 0, "content": "x"}]}, "tokenizer.added_tokens.x.lstrip"),
    ],
)  # fmt: skip
def test_steps(first: dict[str, Any], other: dict[str, Any], key: str, tmp_path: Path) -> None:
    one, two = (_read(tmp_path / str(n), {"tokenizer.json": json.dumps(each)}) for n, each in enumerate((first, other)))
    assert [each.key for each in step_differences(one, two)] == [key]


@pytest.mark.parametrize(
    "option", ["do_lower_case", "strip_accents", "add_bos_token", "add_eos_token", "add_prefix_space"]
)
def test_options(option: str, tmp_path: Path) -> None:
    one, two, none = (
        _read(tmp_path / str(value), {"vocab.txt": "a", "tokenizer_config.json": json.dumps({option: value, "model_max_length": 5})})
        for value in (True, False, None)
    )  # fmt: skip
    assert [each.key for each in step_differences(one, two)] == [f"tokenizer.{option}"]
    assert step_differences(one, none) == []


@pytest.mark.parametrize("change", ["truncation", "padding", "version", "decoder"])
def test_of_no_effect_on_the_tokens_of_a_text(change: str, tmp_path: Path) -> None:
    one, two = (
        _read(tmp_path / str(value), {"tokenizer.json": _file({"vocab": IDS}, **{change: value})})
        for value in (None, {"a": 1})
    )
    assert list(token_differences(one, two, is_base=False)) + step_differences(one, two) == []


@pytest.mark.parametrize(("other", "keys"), [(b"\x0a\x01", []), (b"\x0a\x02", ["tokens"]), (None, ["tokens"])])
def test_sentencepiece_alone_is_compared_by_its_bytes(other: bytes | None, keys: list[str], tmp_path: Path) -> None:
    first = _write(tmp_path / "a", {"spiece.model": ""})
    first["spiece.model"].write_bytes(b"\x0a\x01")
    second = _write(tmp_path / "b", {"vocab.txt": "a"} if other is None else {"spiece.model": ""})
    if other is not None:
        second["spiece.model"].write_bytes(other)
    one, two = read_tokenizer(first), read_tokenizer(second)
    assert one is not None
    assert two is not None
    assert [each.key for each in token_differences(one, two, is_base=False)] == keys


def test_same_files(tmp_path: Path) -> None:
    one = _write(tmp_path / "a", {"vocab.txt": "a", "chat_template.jinja": "x"})
    two = _write(tmp_path / "b", {"vocab.txt": "a", "chat_template.jinja": "y"})
    three = _write(tmp_path / "c", {"vocab.txt": "b", "chat_template.jinja": "x"})
    assert same_tokenizer(one, two)
    assert not same_tokenizer(one, three)
    assert not same_tokenizer(one, {})
