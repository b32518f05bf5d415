"""Modules and pooling of sentence-transformers directories, in the words of all versions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.companions import companions
from lightning_embed.merge.checkpoint.pooling import Chain, chain_differences, read_chain
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from tests.merge import toy

KINDS = ["Transformer", "Pooling", "Normalize"]


def _chain(
    folder: Path, pooling: dict[str, Any] | None, kinds: list[str] = KINDS, new: bool = True, **files: dict[str, Any]
) -> Chain:
    path = toy.write(folder, {"a.weight": torch.ones(2)})
    place = "sentence_transformers.base.modules" if new else "sentence_transformers.models"
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds) if number)]
    modules = [{"idx": n, "path": p, "type": f"{place}.{k}"} for n, (p, k) in enumerate(zip(paths, kinds, strict=True))]
    (path / "modules.json").write_text(json.dumps(modules))
    if pooling is not None:
        (path / "1_Pooling").mkdir()
        (path / "1_Pooling/config.json").write_text(json.dumps(pooling))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return _read(path)


def _read(path: Path) -> Chain:
    model = ModelDirectory.open(Source(path, "a"))
    return read_chain(model.layout, companions(model).modules)


def _old(mode: str) -> dict[str, Any]:
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    return {"word_embedding_dimension": 8} | {f"pooling_mode_{each}": each == mode for each in modes}


SAME = [
    (_old("mean_tokens"), {"embedding_dimension": 8, "pooling_mode": "mean", "include_prompt": True}),
    (_old("cls_token"), {"pooling_mode": "cls"}),
    (_old("lasttoken"), {"pooling_mode": "lasttoken"}),
    (_old("max_tokens"), {"pooling_mode": ["max"]}),
    (_old("weightedmean_tokens"), {"pooling_mode": "weightedmean"}),
    (_old("mean_tokens") | {"pooling_mode_max_tokens": True}, {"pooling_mode": ["mean", "max"]}),
    ({"pooling_mode_mean_tokens": True}, None),
    ({"pooling_mode": "mean", "word_embedding_dimension": 8}, {"pooling_mode": "mean", "embedding_dimension": 8}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_pooling(one: dict[str, Any], other: dict[str, Any] | None, tmp_path: Path) -> None:
    first, second = _chain(tmp_path / "a", one, new=False), _chain(tmp_path / "b", other)
    assert list(chain_differences(first, second)) == []


@pytest.mark.parametrize(
    ("one", "other", "key"),
    [
        (_old("mean_tokens"), _old("cls_token"), "pooling.mode"),
        (_old("mean_tokens"), {"pooling_mode": "cls"}, "pooling.mode"),
        ({"pooling_mode": "mean"}, {"pooling_mode": "lasttoken"}, "pooling.mode"),
        ({"pooling_mode": ["mean", "max"]}, {"pooling_mode": "mean"}, "pooling.mode"),
        ({"pooling_mode": "mean"}, {"pooling_mode": "mean", "include_prompt": False}, "pooling.include_prompt"),
    ],
)
def test_another_pooling(one: dict[str, Any], other: dict[str, Any], key: str, tmp_path: Path) -> None:
    found = list(chain_differences(_chain(tmp_path / "a", one), _chain(tmp_path / "b", other)))
    assert [(each.key, each.harmless) for each in found] == [(key, False)]


@pytest.mark.parametrize("kinds", [KINDS[:2], [*KINDS, "Dropout"], ["Transformer", "Normalize"], KINDS[:1]])
def test_another_chain(kinds: list[str], tmp_path: Path) -> None:
    one = _chain(tmp_path / "a", {"pooling_mode": "mean"})
    found = list(
        chain_differences(one, _chain(tmp_path / "b", {"pooling_mode": "mean"} if "Pooling" in kinds else None, kinds))
    )
    assert [(each.key, each.harmless) for each in found] == [("modules", False)]
    assert found[0].first == "Transformer, Pooling, Normalize"


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ({"max_seq_length": 128}, {"max_seq_length": 512}, [("max_seq_length", True)]),
        ({"prompts": {"query": "a: "}}, {"prompts": {"query": "b: "}}, [("prompts", True)]),
        ({"similarity_fn_name": "cosine"}, {"similarity_fn_name": "dot"}, [("similarity_fn_name", True)]),
        ({"do_lower_case": False}, {"do_lower_case": True}, [("do_lower_case", False)]),
        ({}, {"do_lower_case": True}, [("do_lower_case", False)]),
        ({}, {"do_lower_case": False, "max_seq_length": 5}, []),
        ({"__version__": {"pytorch": "1"}}, {"__version__": {"pytorch": "2"}}, []),
        ({"module_output_name": "token_embeddings"}, {"module_output_name": "pooled"}, [("module_output_name", False)]),
    ],
)
def test_options(one: dict[str, Any], other: dict[str, Any], found: list[tuple[str, bool]], tmp_path: Path) -> None:
    first = _chain(tmp_path / "a", {"pooling_mode": "mean"}, sentence_bert_config=one)
    second = _chain(tmp_path / "b", {"pooling_mode": "mean"}, sentence_bert_config=other)
    assert [(each.key, each.harmless) for each in chain_differences(first, second)] == found


def test_a_plain_directory_has_no_pooling_to_compare(tmp_path: Path) -> None:
    plain = _read(toy.write(tmp_path / "a", {"a.weight": torch.ones(2)}))
    other = _chain(tmp_path / "b", {"pooling_mode": "cls"})
    assert list(chain_differences(plain, other)) == list(chain_differences(other, plain)) == []
