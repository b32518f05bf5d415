"""What a few words show of a model when it is opened: embeddings that depend on more than their texts are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, BertModel

from lightning_embed import load
from lightning_embed.errors import CheckpointError

GPT2 = {"n_embd": 32, "n_layer": 1, "n_head": 4}


def test_states_that_change_with_the_padding(build: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"\(convbert\): expected embeddings that depend on their texts alone"):
        load(build("convbert", embedding_size=32))


def test_types_that_change_the_states(build: Callable[..., Path]) -> None:
    """GPT-2 adds the embedding of a type to its token: zeros are not the same as none."""
    folder = build("gpt2", **GPT2)
    with pytest.raises(CheckpointError, match=r"\(gpt2\): expected one type for all tokens .*token_type_ids"):
        load(folder)
    names = ["input_ids", "attention_mask"]
    AutoTokenizer.from_pretrained(folder, model_input_names=names).save_pretrained(folder)
    assert load(folder).packed


def test_what_a_family_needs_beside_texts_is_reported(
    build: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("You have to specify pixel_values.\nAnd more.")

    folder = build("bert")
    monkeypatch.setattr(BertModel, "forward", refuse)
    with pytest.raises(
        CheckpointError, match=r"BertModel reports for a few words: You have to specify pixel_values\. Use"
    ):
        load(folder)
