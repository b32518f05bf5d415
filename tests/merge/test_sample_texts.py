"""Sample texts tell tokenizers apart that differ in any of the usual settings."""

from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lightning_embed.encoder.opening import TransformersOpener
from lightning_embed.merge.checkpoint.sample_texts import SAMPLE_TEXTS

NORMALIZERS = [
    normalizers.BertNormalizer(),
    normalizers.BertNormalizer(lowercase=False),
    normalizers.BertNormalizer(strip_accents=False),
    normalizers.BertNormalizer(handle_chinese_chars=False),
    normalizers.BertNormalizer(clean_text=False),
    normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Lowercase(), normalizers.Nmt(),
    normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]),
]  # fmt: skip
SPLITS = [
    pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit(), pre_tokenizers.BertPreTokenizer(),
    pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.ByteLevel(add_prefix_space=True),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), pre_tokenizers.Metaspace(),
    pre_tokenizers.Metaspace(prepend_scheme="never"), pre_tokenizers.Punctuation(),
    pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]),
    pre_tokenizers.Digits(individual_digits=False),
]  # fmt: skip


def _words(text: str, normalizer: Any, split: Any) -> Any:
    return split.pre_tokenize_str(normalizer.normalize_str(text))


def _all(normalizer: Any, split: Any) -> list[Any]:
    return [[word for word, _ in _words(text, normalizer, split)] for text in SAMPLE_TEXTS]


@pytest.mark.parametrize("number", range(len(NORMALIZERS)))
def test_normalizers_differ(number: int) -> None:
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)  # keeps spaces
    others = [n for k, n in enumerate(NORMALIZERS) if k != number]
    assert all(_all(NORMALIZERS[number], split) != _all(other, split) for other in others)


@pytest.mark.parametrize("number", range(len(SPLITS)))
def test_splits_differ(number: int) -> None:
    same = normalizers.NFC()
    assert all(_all(same, SPLITS[number]) != _all(same, other) for k, other in enumerate(SPLITS) if k != number)


def test_the_opener_tokenizes_them(tmp_path: Path) -> None:
    raw = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "lazy": 2}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw).save_pretrained(tmp_path / "a")
    assert TransformersOpener().token_ids(tmp_path / "a", ["the lazy dog"]) == [[1, 2, 0]]
    (tmp_path / "b").mkdir()
    assert TransformersOpener().token_ids(tmp_path / "b", SAMPLE_TEXTS) is None
