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
        tokenizer: a Hugging Face tokenizer.
        max_length: maximum number of tokens of a text, special ones included.
        lowercase: whether the text is lowercased first (`do_lower_case` of old sentence-transformers directories).

    Attributes:
        counts_prompts: whether `Tokens.prompts` is filled, for pooling that leaves the prompt out.
    """

    def __init__(self, tokenizer: Any, max_length: int, lowercase: bool = False) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.lowercase = lowercase
        self.counts_prompts = False
        self._prompts: dict[str, int] = {}

    def __call__(
        self,
        texts: Sequence[str],
        prompt: str | Sequence[str] = "",
        max_length: int | Sequence[int | None] | None = None,
    ) -> Tokens:
        """Tokenize texts.

        Args:
            texts: the texts, without their prompts.
            prompt: one for all texts, or one for each.
            max_length: maximum number of tokens, prompt and special ones included, of all texts or of each; it can only
                lower the encoder's own. None: the encoder's.
        """
        prompts = [prompt] * len(texts) if isinstance(prompt, str) else prompt
        given = max_length if isinstance(max_length, Sequence) else [max_length] * len(texts)
        limits = [min(own or self.max_length, self.max_length) for own, _ in zip(given, texts, strict=True)]
        ids: list[torch.Tensor] = []
        lengths = [0]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            prompted = [before + text for before, text in zip(prompts[part], texts[part], strict=True)]
            encoded = self._encode_each(prompted, limits[part])
            ids.append(torch.tensor(list(chain.from_iterable(encoded)), dtype=torch.int64))
            lengths.extend(map(len, encoded))
        counts = torch.tensor([self._prompt_length(p) for p in prompts], dtype=torch.int64)
        return Tokens(
            torch.cat(ids) if ids else torch.empty(0, dtype=torch.int64),
            torch.tensor(lengths).cumsum(0),
            counts if self.counts_prompts else None,
        )

    def _prompt_length(self, prompt: str) -> int:
        """Tokens of a prompt as sentence-transformers counts them: with special ones before it, without one behind."""
        if not self.counts_prompts or not prompt:
            return 0
        if prompt not in self._prompts:
            (ids,) = self._encode([prompt], self.max_length)
            self._prompts[prompt] = len(ids) - (ids[-1] in self.tokenizer.all_special_ids)
        return self._prompts[prompt]

    def _encode_each(self, texts: list[str], limits: Sequence[int]) -> list[list[int]]:
        """Token ids of each text, cut at its own limit: one call of the tokenizer for each limit."""
        encoded: list[list[int]] = [[]] * len(texts)
        for limit in dict.fromkeys(limits):
            chosen = [text for text, own in enumerate(limits) if own == limit]
            for text, ids in zip(chosen, self._encode([texts[text] for text in chosen], limit), strict=True):
                encoded[text] = ids
        return encoded

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
        """Write the tokenizer, without the truncation of the last call: the same tokenizer gives the same bytes.

        Who opens it pads on the right, as texts ran here: a model with learned positions would give other embeddings.
        """
        if self.tokenizer.is_fast:
            self.tokenizer.backend_tokenizer.no_truncation()
            self.tokenizer.backend_tokenizer.no_padding()
        self.tokenizer.padding_side = "right"
        self.tokenizer.model_max_length = self.max_length
        for where_from in ("is_local", "local_files_only", "name_or_path"):
            self.tokenizer.init_kwargs.pop(where_from, None)
        self.tokenizer.save_pretrained(folder)
