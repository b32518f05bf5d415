"""The options of an encoder: `conf/encoder/`. Torch-free, so that a mistyped option is answered at once."""

from dataclasses import dataclass, field
from enum import StrEnum

from lightning_embed.errors import ConfigError, nearest


class Pooling(StrEnum):
    """How the token embeddings of a text become one. `auto`: what the directory says, else `mean`."""

    auto = "auto"
    mean = "mean"
    cls = "cls"
    last_token = "last_token"
    weighted_mean = "weighted_mean"


class Attention(StrEnum):
    """How a chunk of texts runs. `auto`: `packed` where the family allows it, else `sdpa` on padded chunks."""

    auto = "auto"
    packed = "packed"
    sdpa = "sdpa"
    eager = "eager"
    flash_attention_2 = "flash_attention_2"


class Dtype(StrEnum):
    """What the backbone computes in; its weights are float32 always.

    `auto`: bfloat16 while training on a machine that is fast at it, else float32. So what is measured or encoded does
    not depend on the machine.
    """

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass(frozen=True)
class EncoderOptions:
    """A pre-trained backbone and how it makes one embedding of a text.

    Args:
        path: name on the Hugging Face hub, or a Hugging Face or sentence-transformers directory.
        revision: branch, tag or commit of a hub name.
        pooling: see `Pooling`.
        normalize: divide every embedding by its L2 norm. The losses count on it; a sentence-transformers directory
            without this step gets it (cosine scores stay the same).
        max_length: tokens of a text at most, special ones included, the rest is cut. None: what the directory says.
        prompts: text put before every text, by name: `query`, `document`, a task (`sts`), a dataset (`squad`), or one
            of these with a role (`squad-query`). Added to those of the directory.
        attention: see `Attention`.
        dtype: see `Dtype`. float16 is meant for encoding: its gradients are not scaled here.
        gradient_checkpointing: compute every layer twice instead of keeping its activations.
        compile: let torch.compile fuse what stands between attention and dropout in a layer. It takes a minute at the
            start or less, and a C++ compiler on a CPU; changing lengths do not compile anew.
        max_tokens: tokens of one chunk, the unit of work and memory, at most; a longer text is a chunk of its own. `auto`:
            4,096 on a CPU (the activations stay in its cache), on a GPU as many as a quarter of its memory holds, a power
            of two up to 65,536. Dropout depends on it: give a number to go on with a run on another kind of device.
        lora_rank: 0: all weights train; else only low-rank adapters of this rank do, 8 to 64 usually (the extra `lora`
            has peft, which they need). A saved model has them folded into its weights.
        lora_alpha: the adapters' output is multiplied by lora_alpha / lora_rank.
        lora_dropout: share of an adapter's inputs set to zero in training, in [0, 1).
        lora_targets: the linear layers to adapt, by the end of their name: query, attention.output.dense; empty: all.

    Raises:
        ConfigError: an empty path, a word that is none, a number out of range, or lora_targets without a lora_rank.
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
            object.__setattr__(self, name, words(word))  # from Python, the plain text will do
        if not self.path.strip():
            raise ConfigError("encoder.path: expected a hub name or a directory, got an empty text. Name a model.")
        if self.max_length is not None and self.max_length < 3:
            raise ConfigError(
                f"encoder.max_length: expected at least 3 tokens (two are special), got {self.max_length}. "
                "Raise it, or leave it out to take the model's own."
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
