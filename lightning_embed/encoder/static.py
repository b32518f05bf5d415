"""StaticEmbedding of sentence-transformers (model2vec, WordLlama) as a backbone: the embedding of each token, no layers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import BaseModelOutput

from lightning_embed.encoder.library import modules
from lightning_embed.encoder.tokenize import TextTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_UNLIMITED = 10**9  # tokens


class _StaticConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    model_type = "static"


class StaticBackbone(nn.Module):
    """The interface of a transformers model around the table of a StaticEmbedding; the head takes the mean.

    Args:
        module: the module, with its tokenizer.
    """

    def __init__(self, module: modules.StaticEmbedding) -> None:
        super().__init__()
        self.embedding: nn.EmbeddingBag = module.embedding
        self.words = module.tokenizer
        self.config: Any = _StaticConfig()
        self.config.hidden_size, self.config.vocab_size = module.embedding_dim, module.num_embeddings

    @property
    def device(self) -> torch.device:
        """Device of the table."""
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the table."""
        return self.embedding.weight.dtype

    def forward(self, input_ids: Tensor, **_: Any) -> BaseModelOutput:
        """Look the tokens up."""
        hidden = nn.functional.embedding(input_ids, self.embedding.weight)
        return BaseModelOutput(last_hidden_state=hidden, hidden_states=(hidden,))

    def get_input_embeddings(self) -> nn.EmbeddingBag:
        """The table."""
        return self.embedding

    def set_attn_implementation(self, _: str | None) -> None:
        """Nothing attends."""

    def save_pretrained(self, folder: Path, state_dict: Any = None) -> None:  # noqa: ARG002
        """Write the table."""
        modules.StaticEmbedding(self.words, embedding_weights=self.embedding.weight.detach()).save(str(folder))


class StaticTokenizer(TextTokenizer):
    """The tokens of a StaticEmbedding: no special ones, and none for an empty text.

    Args:
        words: its tokenizer.
        max_length: tokens of a text; None: as the tokenizer says.
    """

    def __init__(self, words: "Tokenizer", max_length: int | None) -> None:
        super().__init__(words, max_length or (words.truncation or {}).get("max_length", _UNLIMITED))

    def _encode(self, texts: list[str], max_length: int) -> list[list[int]]:
        self.tokenizer.enable_truncation(max_length)
        return [encoded.ids for encoded in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    @property
    def padding(self) -> int:
        """Any id: padded places are not read."""
        return 0

    def save(self, folder: Path) -> None:
        """Write the tokenizer, with its longest length, if it has one."""
        if self.max_length < _UNLIMITED:
            self.tokenizer.enable_truncation(self.max_length)
        else:
            self.tokenizer.no_truncation()
        self.tokenizer.save(str(folder / "tokenizer.json"))
