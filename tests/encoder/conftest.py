"""Random tiny models of any family, and ragged texts."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lightning_embed.types import Tokens

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
LOCAL = {"max_window_layers": 0, "layer_types": ["sliding_attention", "full_attention"]}
SPECIAL = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "electra": {"embedding_size": 16},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8, "cls_token_id": 2, "sep_token_id": 3},
    "mistral": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 5},
    "qwen2": {"num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 5, **LOCAL},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8, "use_sliding_window": True, "sliding_window": 5, **LOCAL},
}

T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
WINDOW = {"head_dim": 8, "num_key_value_heads": 2, "sliding_window": 5}
SPECIAL |= {
    "gemma2": WINDOW,
    "gemma3_text": {**WINDOW, "layer_types": LOCAL["layer_types"]},
    "t5": T5,
    "mt5": T5,
    "umt5": T5,
}
NOT_OF_BERT = {"distilbert", "t5", "mt5", "umt5", "bart", "gpt2"}  # names of their sizes

Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path, tiny_model: Path) -> Build:
    """Writes a random model of a family, with the words of `tiny_model`, as a Hugging Face directory."""

    def write(family: str, **extra: object) -> Path:
        from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding

        folder = tmp_path / family
        shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("config.json", "*.safetensors"))
        words = len((tiny_model / "vocab.txt").read_text().split())
        shape = {**({} if family in NOT_OF_BERT else SIZES), **SPECIAL.get(family, {}), **extra}
        tokens = {"vocab_size": words + 4, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
        config = AutoConfig.for_model(family, max_position_embeddings=80, **tokens, **shape)
        torch.manual_seed(1)
        auto = AutoModelForTextEncoding if family in ("t5", "mt5", "umt5") else AutoModel
        auto.from_config(config).save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def ragged() -> Tokens:
    """Eleven texts of 3 to 30 tokens, several of them equally long, in no order."""
    generator = torch.Generator().manual_seed(2)
    lengths = [7, 30, 3, 7, 12, 7, 30, 4, 12, 21, 5]
    return Tokens.of([torch.randint(5, 80, (length,), generator=generator).tolist() for length in lengths])
