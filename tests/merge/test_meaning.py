"""Merges of models whose tensors fit: refused by the name of what differs, allowed, or listed in a quiet line."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_embed.encoder.opening import TransformersOpener
from lightning_embed.errors import CheckpointMismatch
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint import meaning
from lightning_embed.merge.checkpoint.meaning import compare
from lightning_embed.merge.engine import MergeSpec, merge_models, open_models
from lightning_embed.merge.examine import examine
from lightning_embed.merge.record.record import MergeRecord
from lightning_embed.merge.replay import Replay
from tests.merge import toy

CONFIG = {
    "model_type": "bert", "architectures": ["BertModel"], "num_attention_heads": 2, "hidden_act": "gelu",
    "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "pad_token_id": 0, "torch_dtype": "float32",
}  # fmt: skip
TOKENIZER = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
    "normalizer": {"type": "BertNormalizer", "lowercase": True}, "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": None, "decoder": None,
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[PAD]": 0, "[UNK]": 1, "red": 2, "cat": 3}},
}  # fmt: skip
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]
FILES: dict[str, Any] = {
    "config.json": CONFIG, "tokenizer.json": TOKENIZER, "tokenizer_config.json": {"do_lower_case": True},
    "modules.json": MODULES, "1_Pooling/config.json": {"pooling_mode": "mean"},
    "sentence_bert_config.json": {"max_seq_length": 128}, "config_sentence_transformers.json": {"prompts": {"query": "q: "}},
}  # fmt: skip
VOCAB: Any = TOKENIZER["model"]


def _write(folder: Path, seed: int, changes: Mapping[str, Any] | None = None) -> Path:
    toy.write(folder, toy.near(toy.model(0), seed))
    for name, content in (FILES | dict(changes or {})).items():
        (folder / name).parent.mkdir(exist_ok=True)
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return folder


def _merge(target: Path, paths: Sequence[Path], base: Path | None = None, **options: Any) -> MergeRecord:
    return merge_models(MergeSpec(toy.strategy("soup", **options), [Source(p, p.name) for p in paths], base), target)


def _tokenizer(**changes: Any) -> dict[str, Any]:
    return {"tokenizer.json": {**TOKENIZER, **changes}}


def _vocab(vocab: Mapping[str, int]) -> dict[str, Any]:
    return _tokenizer(model={**VOCAB, "vocab": vocab})


MOVED = {"[PAD]": 0, "[UNK]": 1, "cat": 2, "red": 3}
FUNCTIONAL: dict[str, tuple[dict[str, Any], str, str]] = {
    "heads": ({"config.json": CONFIG | {"num_attention_heads": 4}}, "num_attention_heads", "2 in 'a', 4 in 'b'"),
    "activation": ({"config.json": CONFIG | {"hidden_act": "relu"}}, "hidden_act", '"gelu" in \'a\', "relu" in \'b\''),
    "eps": ({"config.json": CONFIG | {"layer_norm_eps": 1e-5}}, "layer_norm_eps", "1e-12 in 'a', 1e-05 in 'b'"),
    "family": ({"config.json": CONFIG | {"model_type": "electra"}}, "model_type", '"bert" in \'a\''),
    "class": ({"config.json": CONFIG | {"architectures": ["BertBiModel"]}}, "architectures.0", '"Bert" in \'a\''),
    "causal": ({"config.json": CONFIG | {"is_causal": False}}, "is_causal", "true in 'a', false in 'b'"),
    "order": (_vocab(MOVED), "tokens", '"red" with id 2 in \'a\', id 3 (and 1 more tokens) in \'b\''),
    "renamed": (_vocab({"[PAD]": 0, "[UNK]": 1, "red": 2, "dog": 3}), "tokens", '"cat" with id 3 in \'a\', missing in'),
    "shorter": (_vocab({"[PAD]": 0, "[UNK]": 1, "red": 2}), "tokens", '"cat" with id 3 in \'a\', missing in \'b\''),
    "unknown": (_tokenizer(model={**VOCAB, "unk_token": "[PAD]"}), "tokenizer.unk_token", '"[UNK]" in \'a\''),
    "case": (_tokenizer(normalizer={"type": "BertNormalizer", "lowercase": False}), "tokenizer.normalizer", "true in"),
    "split": (_tokenizer(pre_tokenizer={"type": "Whitespace"}), "tokenizer.pre_tokenizer", '"BertPreTokenizer" in'),
    "marks": (_tokenizer(post_processor={"type": "ByteLevel"}), "tokenizer.post_processor", "null in 'a'"),
    "lower": ({"tokenizer_config.json": {"do_lower_case": False}}, "tokenizer.do_lower_case", "true in 'a', false in"),
    "pooling": ({"1_Pooling/config.json": {"pooling_mode": "cls"}}, "pooling.mode", '"mean" in \'a\', "cls" in \'b\''),
    "old-pooling": ({"1_Pooling/config.json": {"pooling_mode_cls_token": True}}, "pooling.mode", '"cls" in \'b\''),
    "prompt": ({"1_Pooling/config.json": {"pooling_mode": "mean", "include_prompt": False}}, "pooling.include_prompt", "true in"),
    "normalize": ({"modules.json": MODULES[:2]}, "modules", '\'a\', Transformer, Pooling in \'b\''),
    "st-lower": ({"sentence_bert_config.json": {"do_lower_case": True}}, "do_lower_case", "false in 'a', true in 'b'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FUNCTIONAL)
def test_refused_by_name_and_merged_where_allowed(kind: str, tmp_path: Path) -> None:
    changes, key, values = FUNCTIONAL[kind]
    paths = [_write(tmp_path / "a", 1), _write(tmp_path / "b", 2, changes)]
    with pytest.raises(CheckpointMismatch) as refusal:
        _merge(tmp_path / "out", paths)
    text = str(refusal.value)
    assert text.startswith("The tensors of 'a' and 'b' have equal shapes and different meanings: ")
    assert f"{key}" in text
    assert values in text
    assert f"'merge.allow=[{key}]' merges them as they are." in text
    assert ("vocabulary=first (or base)" in text) is (key == "tokens")
    assert not (tmp_path / "out").exists()
    record = _merge(tmp_path / "out", paths, allow=[key])
    (note,) = (note for note in record.sources[1].notes if note.endswith("allowed."))
    assert note.startswith(key)
    assert json.loads((tmp_path / "out/merge.json").read_text())["options"]["allow"] == [key]


@pytest.mark.parametrize("kind", [k for k in FUNCTIONAL if k != "shorter"])  # tokens of the other alone are harmless
def test_the_other_way_round(kind: str, tmp_path: Path) -> None:
    changes, key, _ = FUNCTIONAL[kind]
    with pytest.raises(CheckpointMismatch, match=key.replace(".", r"\.")):
        _merge(tmp_path / "out", [_write(tmp_path / "a", 1, changes), _write(tmp_path / "b", 2)])


HARMLESS: dict[str, tuple[dict[str, Any], str | None]] = {
    "origin": ({"config.json": CONFIG | {"_name_or_path": "x", "transformers_version": "4"}}, None),
    "dtype": ({"config.json": CONFIG | {"torch_dtype": "bfloat16"}}, None),
    "head": ({"config.json": CONFIG | {"architectures": ["BertForMaskedLM"]}}, None),
    "dropout": ({"config.json": CONFIG | {"hidden_dropout_prob": 0.0}}, "hidden_dropout_prob: 0.0 (a: 0.1)"),
    "labels": ({"config.json": CONFIG | {"id2label": {"0": "x"}}}, None),
    "padding-id": ({"config.json": CONFIG | {"pad_token_id": 3}}, "pad_token_id: 3 (a: 0)"),
    "absent": ({"config.json": {"model_type": "bert"}}, None),
    "truncation": (_tokenizer(truncation={"max_length": 64}), None),
    "padding": (_tokenizer(padding={"length": 64}), None),
    "decoder": (_tokenizer(decoder={"type": "WordPiece"}), None),
    "length": ({"tokenizer_config.json": {"do_lower_case": True, "model_max_length": 64}}, None),
    "max_seq_length": ({"sentence_bert_config.json": {"max_seq_length": 256}}, "max_seq_length: 256 (a: 128)"),
    "prompts": (
        {"config_sentence_transformers.json": {"prompts": {"query": "r: "}}}, 'prompts: {"query": "r: "} (a: {"query": "q: "})',
    ),
    "plain": (dict.fromkeys(["modules.json", "1_Pooling/config.json"]), None),
    "no-tokenizer": (dict.fromkeys(["tokenizer.json", "tokenizer_config.json"]), None),
    "longer": (_vocab(VOCAB["vocab"] | {"new": 4}), 'tokens: with "new" (a: without)'),
}  # fmt: skip


@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_differences_are_a_quiet_line(kind: str, tmp_path: Path) -> None:
    changes, note = HARMLESS[kind]
    record = _merge(tmp_path / "out", [_write(tmp_path / "a", 1), _write(tmp_path / "b", 2, changes)])
    expected = [] if note is None else [f"{note}; without effect on the merged model."]
    assert record.sources[1].notes == expected
    assert record.sources[0].notes == []


BASE_ALLOWS = [
    "causal",
    "renamed",
    "shorter",
    "case",
    "split",
    "marks",
    "lower",
    "pooling",
    "normalize",
    "st-lower",
    "unknown",
]


@pytest.mark.parametrize("kind", FUNCTIONAL)
def test_the_base(kind: str, tmp_path: Path) -> None:
    """A fine-tune may add tokens, and change what is around the weights; it does not change what they mean."""
    changes, key, _ = FUNCTIONAL[kind]
    base = _write(tmp_path / "base", 0, changes)
    if kind in [*BASE_ALLOWS, "old-pooling", "prompt"]:
        assert _merge(tmp_path / "out", [_write(tmp_path / "a", 1)], base).models[-1].notes == []
        return
    with pytest.raises(CheckpointMismatch, match=rf"of 'a' and 'base' .* meanings: {key}"):
        _merge(tmp_path / "out", [_write(tmp_path / "a", 1)], base)


def test_each_source_is_compared_with_the_first(tmp_path: Path) -> None:
    paths = [_write(tmp_path / name, n) for n, name in enumerate("abc")] + [
        _write(tmp_path / "d", 4, FUNCTIONAL["eps"][0])
    ]
    with pytest.raises(CheckpointMismatch, match=r"of 'a' and 'd' have .* layer_norm_eps"):
        _merge(tmp_path / "out", paths)


def test_several_at_once(tmp_path: Path) -> None:
    changes = {"config.json": CONFIG | {"layer_norm_eps": 1e-5, "num_attention_heads": 4}, "modules.json": MODULES[:2]}
    paths = [_write(tmp_path / "a", 1), _write(tmp_path / "b", 2, changes)]
    keys = ["num_attention_heads", "layer_norm_eps", "modules"]
    with pytest.raises(CheckpointMismatch, match=r"merge.allow=\[num_attention_heads,layer_norm_eps,modules\]'"):
        _merge(tmp_path / "out", paths)
    with pytest.raises(CheckpointMismatch, match=r"merge.allow=\[layer_norm_eps\]'"):
        _merge(tmp_path / "out", paths, allow=["modules", "num_attention_heads"])
    assert _merge(tmp_path / "out", paths, allow=keys).sources[1].notes


@pytest.mark.parametrize("entry", ["rope_theta", "tokens", "num_attention", "pooling.mod", ""])
def test_an_entry_that_allows_nothing_is_named(entry: str, tmp_path: Path) -> None:
    record = _merge(tmp_path / "out", [_write(tmp_path / name, n) for n, name in enumerate("ab")], allow=[entry])
    assert record.remarks() == [f"a: merge.allow={entry} allows nothing here."]


def test_allow_is_in_a_recipe(tmp_path: Path) -> None:
    paths = [_write(tmp_path / "a", 1), _write(tmp_path / "b", 2, FUNCTIONAL["order"][0])]
    _merge(tmp_path / "one", paths, allow=["tokens"])
    replay = Replay.read(tmp_path / "one/merge.json")
    assert replay.options["allow"] == ["tokens"]
    replay.repeat(toy.strategy("soup", allow=replay.options["allow"]), tmp_path / "two")
    weights = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]


def test_an_examination_notes_what_a_merge_refuses(tmp_path: Path) -> None:
    paths = [_write(tmp_path / "a", 1), _write(tmp_path / "b", 2, FUNCTIONAL["heads"][0])]
    record = examine([Source(p, p.name) for p in paths], None, tmp_path / "out")
    assert record.sources[1].notes == ["num_attention_heads: 4 (a: 2); a merge refuses this."]


class _Unused(TransformersOpener):
    def config(self, folder: Path) -> dict[str, Any]:
        raise AssertionError(folder)

    def token_ids(self, folder: Path, texts: Sequence[str]) -> list[list[int]] | None:
        raise AssertionError(folder)


def test_models_of_one_program_are_compared_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Experts of a training: transformers is not imported, and no tokenizer is parsed (0.3 s for 250,000 tokens)."""
    first = _write(tmp_path / "a", 0)
    paths = [first, *(Path(shutil.copytree(first, tmp_path / name)) for name in "bcd")]
    models = open_models([Source(p, p.name) for p in paths], None)
    monkeypatch.delattr(meaning, "read_tokenizer")
    assert [model.notes for model in compare(models, 4, [], _Unused())] == [()] * 4


@pytest.mark.parametrize("equal", [True, False])
def test_steps_in_other_words_are_compared_on_sample_texts(equal: bool, tmp_path: Path) -> None:
    """transformers 5 writes tokenizers of four families in other words than transformers 4 did."""

    class Cuts(TransformersOpener):
        def token_ids(self, folder: Path, texts: Sequence[str]) -> list[list[int]] | None:
            return [[2, 3] if equal or folder.name == "a" else [3] for _ in texts]

    changes = _tokenizer(normalizer={"type": "Sequence", "normalizers": []})
    models = open_models([Source(_write(tmp_path / n, 1, c), n) for n, c in (("a", None), ("b", changes))], None)
    if equal:
        (note,) = compare(models, 2, [], Cuts())[1].notes
        assert note.startswith('tokenizer.normalizer.type: "Sequence" (a: "BertNormalizer")')
    else:
        with pytest.raises(CheckpointMismatch, match=r"tokenizer\.normalizer\.type"):
            compare(models, 2, [], Cuts())


def test_real_models_in_old_and_new_words(tiny_model: Path, tmp_path: Path) -> None:
    """An old config.json, with spellings and keys of transformers 4, beside one of transformers 5."""
    old = Path(shutil.copytree(tiny_model, tmp_path / "old"))
    config = json.loads((old / "config.json").read_text())
    dropped = ("dtype", "tie_word_embeddings", "is_decoder", "add_cross_attention", "hidden_act", "layer_norm_eps")
    config = {key: value for key, value in config.items() if key not in dropped}
    config |= {"position_embedding_type": "absolute", "gradient_checkpointing": False, "torch_dtype": "float32"}
    (old / "config.json").write_text(json.dumps(config | {"transformers_version": "4.6.0"}))
    spec = MergeSpec(toy.strategy("soup"), [Source(tiny_model, "new"), Source(old, "old")])
    record = merge_models(spec, tmp_path / "out", opener=TransformersOpener())
    assert record.sources[1].notes == []
    changed = json.loads((old / "config.json").read_text()) | {"hidden_act": "relu"}
    (old / "config.json").write_text(json.dumps(changed))
    with pytest.raises(CheckpointMismatch, match=r"hidden_act: \"gelu\" in 'new', \"relu\" in 'old'"):
        merge_models(spec, tmp_path / "two", opener=TransformersOpener())


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    paths = [_write(tmp_path / "a", 1), _write(tmp_path / "b", 2)]
    (paths[1] / "tokenizer.json").write_text("{")
    with pytest.raises(Exception, match=r"b/tokenizer.json: expected JSON"):
        _merge(tmp_path / "out", paths)


def test_tensors_are_compared_before_meanings(tmp_path: Path) -> None:
    one = _write(tmp_path / "a", 1)
    two = toy.write(tmp_path / "b", {**toy.model(2), toy.ZERO: torch.zeros(9)})
    with pytest.raises(CheckpointMismatch, match=r"Only models of one architecture"):
        _merge(tmp_path / "out", [one, two])
