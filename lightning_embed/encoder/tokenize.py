"""Tokenisation of texts into ragged token ids."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from lightning_embed.types import Tokens

_TEXTS_AT_ONCE = 4096  # bounds the number of Python integers in memory


class TextTokenizer:
    """Prompt + text -> token ids with special tokens, cut at `max_length`. Picklable: DataLoader workers hold a copy.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        max_length: maximum number of tokens of a text, special ones included.
        lowercase: whether the text is lowercased first (`do_lower_case` of old sentence-transformers directories).
    """

    def __init__(self, tokenizer: Any, max_length: int, lowercase: bool = False) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.lowercase = lowercase

    def __call__(self, texts: Sequence[str], prompt: str = "", max_length: int | None = None) -> Tokens:
        """Tokenize `texts`; `max_length` can only lower the encoder's own."""
        limit = min(max_length or self.max_length, self.max_length)
        ids: list[torch.Tensor] = []
        lengths = [0]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            encoded = self._encode([prompt + text for text in texts[start : start + _TEXTS_AT_ONCE]], limit)
            ids.append(torch.tensor(list(chain.from_iterable(encoded)), dtype=torch.int64))
            lengths.extend(map(len, encoded))
        return Tokens(torch.cat(ids) if ids else torch.empty(0, dtype=torch.int64), torch.tensor(lengths).cumsum(0))

    def _encode(self, texts: list[str], max_length: int) -> list[list[int]]:
        if self.lowercase:
            texts = [text.lower() for text in texts]
        encoded = self.tokenizer(
            texts, truncation=True, max_length=max_length, return_attention_mask=False, return_token_type_ids=False
        )
        # Where the tokenizer adds no special tokens, an empty text has no token: it gets one of padding.
        return [ids or [self.padding] for ids in encoded["input_ids"]]

    @property
    def padding(self) -> int:
        """Id of the padding token."""
        return int(self.tokenizer.pad_token_id)

    def save(self, folder: Path) -> None:
        """Write the tokenizer, without the truncation of the last call: the same tokenizer gives the same bytes."""
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.backend_tokenizer.no_padding()
        self.tokenizer.model_max_length = self.max_length
        for where_from in ("is_local", "local_files_only", "name_or_path"):
            self.tokenizer.init_kwargs.pop(where_from, None)
        self.tokenizer.save_pretrained(folder)
