"""Vocabularies of different orders and sizes, merged token by token, against a slow merge of rows by their tokens."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import CheckpointError, CheckpointMismatch, ConfigError
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint import vocabulary as module
from lightning_embed.merge.contract import Vocabulary
from lightning_embed.merge.engine import MergeSpec, OutputFormat, merge_models, open_models
from lightning_embed.merge.replay import Replay
from tests.merge import toy

DIM = 4
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = ["red", "blue", "cat", "dog", "bird", "##s", "eats", "the"]
TABLE, BODY = "embeddings.word_embeddings.weight", "encoder.layer.0.dense.weight"
HEADS = ["cls.predictions.bias", "cls.predictions.decoder.weight"]
POSITIONS = "embeddings.position_embeddings.weight"


def _tokenizer_file(ids: Mapping[str, int], kind: str) -> dict[str, Any]:
    special = [token for token in ids if token in SPECIAL or token.startswith("<")]
    added = [{"id": ids[token], "content": token, "special": True} for token in special]
    if kind == "Unigram":
        pieces = sorted(ids, key=ids.__getitem__)
        return {
            "added_tokens": added,
            "model": {"type": kind, "unk_id": 0, "vocab": [[piece, -1.0] for piece in pieces]},
        }
    return {"added_tokens": added, "model": {"type": kind, "vocab": dict(ids), "merges": []}}


def _write(
    folder: Path,
    tokens: Sequence[str],
    seed: int,
    *,
    rows: int | None = None,
    kind: str = "WordPiece",
    prefix: str = "",
    heads: Sequence[str] = HEADS,
    dtype: torch.dtype = torch.float32,
    roles: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> tuple[Path, dict[str, Tensor], dict[str, int]]:
    """A model whose vocabulary has these tokens in this order: its folder, tensors, and ids."""
    generator = torch.Generator().manual_seed(seed)
    rows = rows or len(tokens)
    shapes = {TABLE: (rows, DIM), BODY: (DIM, 6), POSITIONS: (rows, DIM), "embeddings.LayerNorm.weight": (DIM,)}
    shapes |= {name: (rows,) if name.endswith("bias") else (rows, DIM) for name in heads}
    shapes[POSITIONS] = (16, DIM)
    tensors = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
    toy.write(folder, {f"{'' if name.startswith('cls') else prefix}{name}": t for name, t in tensors.items()})
    ids = {token: number for number, token in enumerate(tokens)}
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": rows} | dict(config or {})))
    if kind == "vocab.txt":
        (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    else:
        (folder / "tokenizer.json").write_text(json.dumps(_tokenizer_file(ids, kind)))
    (folder / "tokenizer_config.json").write_text(json.dumps(roles or {"pad_token": "[PAD]"}))
    return folder, tensors, ids


def _by_token(
    name: str,
    sources: Sequence[tuple[dict[str, Tensor], dict[str, int]]],
    reference: tuple[dict[str, Tensor], dict[str, int]],
    base: tuple[dict[str, Tensor], dict[str, int]] | None,
) -> list[list[Tensor]]:
    """For each row of the reference the rows of the sources, in float64, found token by token."""
    names = {number: token for token, number in reference[1].items()}
    table = []
    for number in range(len(reference[0][name])):
        token = names.get(number)
        lent = reference[0][name][number]
        if token is not None and base is not None and token in base[1]:
            lent = base[0][name][base[1][token]]
        rows = [tensors[name][ids[token]] if token in ids else lent for tensors, ids in sources]
        table.append([row.double() for row in rows])
    return table


def _merge(
    target: Path, paths: Sequence[Path], base: Path | None, word: Vocabulary | None, how: str = "soup", **options: Any
) -> dict[str, Tensor]:
    spec = MergeSpec(toy.strategy(how, **options), [Source(p, p.name) for p in paths], base, 0, word)
    merge_models(spec, target)
    return toy.read(target / "model")


ORDERS: dict[str, list[list[str]]] = {
    "reversed": [[*SPECIAL, *WORDS], [*WORDS[::-1], *SPECIAL]],
    "rotated": [[*SPECIAL, *WORDS], [*WORDS[3:], *SPECIAL, *WORDS[:3]]],
    "two-swapped": [[*SPECIAL, *WORDS], [*SPECIAL, "blue", "red", *WORDS[2:]]],
    "three-orders": [[*SPECIAL, *WORDS], [*SPECIAL, *WORDS[::-1]], [*WORDS, *SPECIAL]],
    "smaller": [[*SPECIAL, *WORDS], [*SPECIAL, *WORDS[:4]]],
    "larger": [[*SPECIAL, *WORDS[:4]], [*SPECIAL, *WORDS]],
    "others": [[*SPECIAL, *WORDS], [*SPECIAL, "cat", "dog", "fish", "tree"]],
    "three-sizes": [[*SPECIAL, *WORDS], ["the", *SPECIAL, "red", "new"], [*WORDS[::-1], "even", "more", *SPECIAL]],
    "added-at-the-end": [[*SPECIAL, *WORDS], [*SPECIAL, *WORDS, "[NEW1]", "[NEW2]"]],
    "nothing-in-common": [[*SPECIAL, *WORDS], ["x", "y", "z"]],
}  # fmt: skip


@pytest.mark.parametrize("word", [Vocabulary.first, Vocabulary.base])
@pytest.mark.parametrize("order", ORDERS)
def test_rows_follow_their_tokens(order: str, word: Vocabulary, tmp_path: Path) -> None:
    made = [_write(tmp_path / f"s{n}", tokens, n) for n, tokens in enumerate(ORDERS[order])]
    origin = _write(tmp_path / "base", [*WORDS[::2], *SPECIAL, *WORDS[1::2], "old"], 9)
    merged = _merge(tmp_path / "out", [path for path, *_ in made], origin[0], word)
    sources, base = [each[1:] for each in made], origin[1:]
    reference = base if word is Vocabulary.base else sources[0]
    for name in (TABLE, *HEADS):
        expected = torch.stack([sum(rows) / len(rows) for rows in _by_token(name, sources, reference, base)])
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=2e-7)
    for name in (BODY, POSITIONS):
        expected = sum(tensors[name].double() for tensors, _ in sources) / len(sources)
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize("order", ORDERS)
def test_without_a_base_the_first_gives_what_others_lack(order: str, tmp_path: Path) -> None:
    made = [_write(tmp_path / f"s{n}", tokens, n) for n, tokens in enumerate(ORDERS[order])]
    merged = _merge(tmp_path / "out", [path for path, *_ in made], None, Vocabulary.first)
    sources = [each[1:] for each in made]
    table = _by_token(TABLE, sources, sources[0], None)
    expected = torch.stack([sum(rows) / len(rows) for rows in table])
    torch.testing.assert_close(merged[TABLE].double(), expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize("how", ["task_arithmetic", "ties", "slerp", "model_stock", "wise_ft"])
def test_a_merge_of_permuted_models_is_the_permuted_merge(how: str, tmp_path: Path) -> None:
    """The law behind all others: the order of the rows has no meaning."""
    tokens = [*SPECIAL, *WORDS]
    orders = [tokens[::-1], tokens[5:] + tokens[:5]]
    plain = [_write(tmp_path / "plain" / f"s{n}", tokens, n)[0] for n in range(2)]
    base = _write(tmp_path / "base", tokens, 9)[0]
    moved = []
    for number, order in enumerate(orders):
        path, tensors, _ = _write(tmp_path / "moved" / f"s{number}", order, number)
        stored = toy.read(plain[number])
        rows = torch.tensor([tokens.index(token) for token in order])
        changed = {n: stored[n][rows] if n in (TABLE, *HEADS) else stored[n] for n in tensors}
        (path / "model.safetensors").unlink()
        toy.save_file(changed, path / "model.safetensors", metadata={"format": "pt"})
        moved.append(path)
    one = _merge(tmp_path / "one", plain, base, None, how)
    two = _merge(tmp_path / "two", moved, base, Vocabulary.base, how)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_delta_of_a_token_that_a_source_lacks_is_zero(tmp_path: Path) -> None:
    tokens = [*SPECIAL, *WORDS]
    base = _write(tmp_path / "base", tokens, 9, dtype=torch.float32)[0]
    small = _write(tmp_path / "small", [*SPECIAL, "cat"], 1, dtype=torch.bfloat16)[0]
    (source, origin) = open_models([Source(small, "small")], base, vocabulary=Vocabulary.base)
    deltas = source.tensor(TABLE).float() - origin.tensor(TABLE).float()
    assert [bool(row.any()) for row in deltas] == [token in (*SPECIAL, "cat") for token in tokens]
    merged = _merge(tmp_path / "out", [small], base, Vocabulary.base, "task_arithmetic")
    assert torch.equal(merged[TABLE][tokens.index("dog")], origin.tensor(TABLE)[tokens.index("dog")])


@pytest.mark.parametrize("rows", [12, 13, 16, 64])
def test_rows_without_a_token_are_the_references(rows: int, tmp_path: Path) -> None:
    tokens = [*SPECIAL, *WORDS]
    first, stored, _ = _write(tmp_path / "first", tokens, 0, rows=rows)
    other = _write(tmp_path / "other", tokens[::-1], 1, rows=20)[0]
    merged = _merge(tmp_path / "out", [first, other], None, Vocabulary.first)
    assert merged[TABLE].shape == (rows, DIM)
    torch.testing.assert_close(merged[TABLE][len(tokens) :], stored[TABLE][len(tokens) :])


@pytest.mark.parametrize("kinds", [*permutations(["WordPiece", "BPE", "Unigram", "WordLevel", "vocab.txt"], 2)])
def test_any_kind_of_tokenizer(kinds: tuple[str, str], tmp_path: Path) -> None:
    tokens = [*SPECIAL, *WORDS]
    made = [_write(tmp_path / f"s{n}", tokens[:: 1 - 2 * n], n, kind=kind) for n, kind in enumerate(kinds)]
    merged = _merge(tmp_path / "out", [path for path, *_ in made], None, Vocabulary.first)
    expected = (made[0][1][TABLE] + made[1][1][TABLE].flip(0)) / 2
    torch.testing.assert_close(merged[TABLE], expected)


@pytest.mark.parametrize("prefixes", [("", "bert."), ("bert.", ""), ("bert.", "roberta.")])
def test_models_with_prefixes(prefixes: tuple[str, str], tmp_path: Path) -> None:
    tokens = [*SPECIAL, *WORDS]
    made = [_write(tmp_path / f"s{n}", tokens[:: 1 - 2 * n], n, prefix=p) for n, p in enumerate(prefixes)]
    merged = _merge(tmp_path / "out", [path for path, *_ in made], None, Vocabulary.first)
    expected = (made[0][1][TABLE] + made[1][1][TABLE].flip(0)) / 2
    torch.testing.assert_close(next(t for n, t in merged.items() if n.endswith(TABLE)), expected)


def test_special_tokens_are_matched_by_their_role(tmp_path: Path) -> None:
    ours = _write(tmp_path / "ours", [*SPECIAL, "cat"], 0, roles={"pad_token": "[PAD]", "cls_token": "[CLS]"})
    theirs = _write(
        tmp_path / "theirs", ["cat", "<s>", "<pad>"], 1, roles={"pad_token": "<pad>", "cls_token": {"content": "<s>"}}
    )  # fmt: skip
    merged = _merge(tmp_path / "out", [ours[0], theirs[0]], None, Vocabulary.first)
    mine, other = ours[1][TABLE], theirs[1][TABLE]
    expected = torch.stack(
        [(mine[0] + other[2]) / 2, mine[1], (mine[2] + other[1]) / 2, mine[3], (mine[4] + other[0]) / 2]
    )
    torch.testing.assert_close(merged[TABLE], expected)


def test_the_result_has_the_tokenizer_and_the_size_of_the_reference(tmp_path: Path) -> None:
    ids = {"pad_token_id": 0, "eos_token_id": 3}
    base = _write(tmp_path / "base", [*SPECIAL, *WORDS], 9, config=ids)[0]
    source = _write(tmp_path / "s", [*WORDS[:3], *SPECIAL], 1, kind="vocab.txt", config={"pad_token_id": 3})[0]
    _merge(tmp_path / "out", [source], base, Vocabulary.base)
    model = tmp_path / "out/model"
    assert json.loads((model / "config.json").read_text()) == {
        "model_type": "bert", "vocab_size": 12, "dtype": "float32", **ids,
    }  # fmt: skip
    assert (model / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert not (model / "vocab.txt").exists()
    record = json.loads((tmp_path / "out/merge.json").read_text())
    assert record["vocabulary"] == "base"
    assert record["sources"][0]["differing_files"] == []
    assert record["sources"][0]["notes"] == [
        "rows of cls.predictions.bias, cls.predictions.decoder.weight, embeddings.word_embeddings.weight in the order of "
        "the vocabulary of base: 7 of its 12 tokens; the others have the rows of the base, or of base."
    ]


@pytest.mark.parametrize("word", Vocabulary)
def test_replay(word: Vocabulary, tmp_path: Path) -> None:
    base = _write(tmp_path / "base", [*SPECIAL, *WORDS], 9)[0]
    paths = [_write(tmp_path / f"s{n}", [*WORDS[n:], *SPECIAL], n)[0] for n in range(2)]
    _merge(tmp_path / "one", paths, base, word)
    replay = Replay.read(tmp_path / "one/merge.json")
    replay.repeat(toy.strategy("soup"), tmp_path / "two")
    assert (tmp_path / "one/model/model.safetensors").read_bytes() == (
        tmp_path / "two/model/model.safetensors"
    ).read_bytes()
    assert (tmp_path / "one/model/tokenizer.json").read_bytes() == (tmp_path / "two/model/tokenizer.json").read_bytes()


@pytest.mark.parametrize("chunk", [1, 16, 40, 10**6])
def test_the_size_of_the_parts_changes_nothing(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_BYTES", chunk)
    made = [_write(tmp_path / f"s{n}", tokens, n) for n, tokens in enumerate(ORDERS["three-sizes"])]
    merged = _merge(tmp_path / "out", [path for path, *_ in made], None, Vocabulary.first)
    sources = [each[1:] for each in made]
    expected = torch.stack([sum(rows) / 3 for rows in _by_token(TABLE, sources, sources[0], None)])
    torch.testing.assert_close(merged[TABLE].double(), expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize("word", [None, *Vocabulary])
def test_equal_vocabularies_change_nothing(word: Vocabulary | None, tmp_path: Path) -> None:
    tokens = [*SPECIAL, *WORDS]
    paths = [_write(tmp_path / f"s{n}", tokens, n)[0] for n in range(3)]
    _merge(tmp_path / "plain", paths[1:], paths[0], None)
    _merge(tmp_path / "out", paths[1:], paths[0], word)
    one, two = (tmp_path / name / "model/model.safetensors" for name in ("plain", "out"))
    assert one.read_bytes() == two.read_bytes()
    assert all(not m["notes"] for m in json.loads((tmp_path / "out/merge.json").read_text())["sources"])


def test_out_dtype_auto_is_that_of_the_first(tmp_path: Path) -> None:
    base = _write(tmp_path / "base", [*SPECIAL, *WORDS], 9)[0]
    source = _write(tmp_path / "s", WORDS[::-1], 1, dtype=torch.bfloat16)[0]
    spec = MergeSpec(toy.strategy("soup"), [Source(source, "s")], base, 0, Vocabulary.base)
    merge_models(spec, tmp_path / "out", output=OutputFormat("auto"))
    assert {tensor.dtype for tensor in toy.read(tmp_path / "out/model").values()} == {torch.bfloat16}


# refusal


def test_no_base(tmp_path: Path) -> None:
    path = _write(tmp_path / "s", SPECIAL, 0)[0]
    with pytest.raises(ConfigError, match=r"^vocabulary=base takes the tokens of the base, .* has none. Give base=.$"):
        _merge(tmp_path / "out", [path], None, Vocabulary.base)


@pytest.mark.parametrize(("left", "found"), [(None, "no tokenizer"), ("spiece.model", "a sentencepiece file only")])
@pytest.mark.parametrize("which", ["s0", "s1"])
def test_no_tokens_to_compare(which: str, left: str | None, found: str, tmp_path: Path) -> None:
    paths = [_write(tmp_path / f"s{n}", SPECIAL, n)[0] for n in range(2)]
    for file in (tmp_path / which).glob("tokenizer*"):
        file.unlink()
    if left is not None:
        (tmp_path / which / left).write_bytes(b"\x0a\x01")
    with pytest.raises(
        CheckpointError, match=rf"{which}: vocabulary= compares tokens, .*, found {found}. Open it with"
    ):
        _merge(tmp_path / "out", paths, None, Vocabulary.first)


def test_a_head_that_the_reference_lacks(tmp_path: Path) -> None:
    """It is left out, as without `vocabulary`: it lies outside of the body."""
    first = _write(tmp_path / "first", [*SPECIAL, *WORDS], 0, heads=[])[0]
    other = _write(tmp_path / "other", WORDS[:3], 1, prefix="bert.")[0]
    merged = _merge(tmp_path / "out", [first, other], None, Vocabulary.first)
    assert merged.keys() == {TABLE, BODY, POSITIONS, "embeddings.LayerNorm.weight"}


def test_different_sizes_without_the_option_name_it(tmp_path: Path) -> None:
    one = _write(tmp_path / "one", [*SPECIAL, *WORDS], 0)[0]
    two = _write(tmp_path / "two", SPECIAL, 1)[0]
    with pytest.raises(
        CheckpointMismatch, match=r"differ in 3 tensors: .* differ, vocabulary=first \(or base\) merges them by token"
    ):
        _merge(tmp_path / "out", [one, two], None, None)


def test_the_same_rows_are_read_in_parallel_once(tmp_path: Path) -> None:
    one = _write(tmp_path / "one", [*SPECIAL, *WORDS], 0)[0]
    two = _write(tmp_path / "two", WORDS[::-1], 1)[0]
    _, model = open_models([Source(one, "one"), Source(two, "two")], None, vocabulary=Vocabulary.first)
    found = [model.tensor(TABLE) for _ in range(3)]
    assert all(left.data_ptr() == right.data_ptr() for left, right in pairwise(found))


@pytest.mark.parametrize("value", ["union", 1, ["base"]])
def test_a_recipe_with_another_word(value: object, tmp_path: Path) -> None:
    path = _write(tmp_path / "s", SPECIAL, 0)[0]
    _merge(tmp_path / "out", [path], None, Vocabulary.first)
    file = tmp_path / "out/merge.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocabulary": value}))
    with pytest.raises(ConfigError, match=r"recipe=.*merge.json is not a merge.json of this version \(.*vocabulary"):
        Replay.read(file)
