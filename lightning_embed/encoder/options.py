"""The options of an encoder: `conf/encoder/`. Imports no torch, so that a mistyped option is reported at once."""

from dataclasses import dataclass, field
from enum import StrEnum

from lightning_embed.errors import ConfigError, nearest


class Pooling(StrEnum):
    """Pooling of the token embeddings of a text. `auto`: that of the directory, else `mean`."""

    auto = "auto"
    mean = "mean"
    cls = "cls"
    last_token = "last_token"
    weighted_mean = "weighted_mean"


class Attention(StrEnum):
    """Attention of a chunk of texts. `auto`: `packed` where the family supports it, else `sdpa` on padded chunks."""

    auto = "auto"
    packed = "packed"
    sdpa = "sdpa"
    eager = "eager"
    flash_attention_2 = "flash_attention_2"


class Dtype(StrEnum):
    """Dtype of the backbone's computation; its weights are always float32.

    `auto`: bfloat16 in training on machines that support it in hardware, else float32, so that embeddings and scores do
    not depend on the machine.
    """

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass(frozen=True)
class EncoderOptions:
    """A pre-trained backbone, and the computation of an embedding with it.

    Args:
        path: name on the Hugging Face hub, or a Hugging Face or sentence-transformers directory.
        revision: branch, tag or commit of a hub name.
        pooling: see `Pooling`.
        normalize: divide every embedding by its L2 norm. The losses require it; it is added to a sentence-transformers
            directory without this step (cosine scores stay the same).
        max_length: maximum number of tokens of a text, special ones included; longer texts are truncated. None: that of
            the directory.
        prompts: text put before every text, by name: `query`, `document`, a task (`sts`), a dataset (`squad`), or one
            of these with a role (`squad-query`). Added to those of the directory.
        attention: see `Attention`.
        dtype: see `Dtype`. float16 is for inference: its gradients are not scaled here.
        gradient_checkpointing: compute every layer twice instead of saving its activations.
        compile: fuse the operations of a layer, except attention and dropout, with torch.compile. It takes up to a
            minute at the start, and needs a C++ compiler on a CPU; new lengths are not compiled again.
        max_tokens: maximum number of tokens of a chunk, the unit of work and memory; a longer text is a chunk of its
            own. `auto`: 4,096 on a CPU (the activations fit its cache), on a GPU as many as fit a quarter of its
            memory, a power of two up to 65,536. Dropout depends on it: give a number to continue a run on a different
            kind of device.
        lora_rank: 0: all weights train; else only low-rank adapters of this rank, usually 8 to 64 (they need peft, in
            the extra `lora`). A saved model has them folded into its weights.
        lora_alpha: the output of the adapters is multiplied by lora_alpha / lora_rank.
        lora_dropout: share of an adapter's inputs set to zero in training, in [0, 1).
        lora_targets: suffixes of the names of linear layers to adapt: query, attention.output.dense; empty: all.

    Raises:
        ConfigError: an empty path, an unknown word, a number out of range, or lora_targets without a lora_rank.
    """

    path: str
    revision: str | None = None
    pooling: Pooling = Pooling.auto
    normalize: bool = True
    max_length: int | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    attention: Attention = Attention.auto
    dtype: Dtype = Dtype.auto
    gradient_checkpointing: bool = False
    compile: bool = False
    max_tokens: int | str = "auto"
    lora_rank: int = 0
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    lora_targets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, words in {"pooling": Pooling, "attention": Attention, "dtype": Dtype}.items():
            word = getattr(self, name)
            if word not in list(words):
                raise ConfigError(f"encoder.{name}: unknown word {word!r}. {nearest(str(word), map(str, words))}")
            object.__setattr__(self, name, words(word))  # a plain text is accepted from Python
        if not self.path.strip():
            raise ConfigError("encoder.path: expected a hub name or a directory, got an empty text. Name a model.")
        if self.max_length is not None and self.max_length < 3:
            raise ConfigError(
                f"encoder.max_length: expected at least 3 tokens (two are special), got {self.max_length}. "
                "Raise it, or leave it out to use the model's own."
            )
        if self.max_tokens != "auto" and (isinstance(self.max_tokens, str) or self.max_tokens < 1):
            raise ConfigError(
                f"encoder.max_tokens: expected auto or at least 1, got {self.max_tokens}. Usual: 4096 to 65536."
            )
        self._check_lora()

    def _check_lora(self) -> None:
        if self.lora_rank < 0:
            raise ConfigError(
                f"encoder.lora_rank: expected 0 (all weights train) or a rank, got {self.lora_rank}. Usual: 8 to 64."
            )
        if not self.lora_alpha > 0:
            raise ConfigError(f"encoder.lora_alpha: expected more than 0, got {self.lora_alpha}. Usual: 16 to 64.")
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(
                f"encoder.lora_dropout: expected a share in [0, 1), got {self.lora_dropout}. Usual: 0 to 0.1."
            )
        if self.lora_targets and not self.lora_rank:
            raise ConfigError(
                "encoder.lora_targets: expected a lora_rank with them, got lora_rank=0. Set encoder.lora_rank, for "
                "example to 32."
            )
