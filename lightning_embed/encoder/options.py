"""The options of an encoder: `conf/encoder/`. Imports no torch, so that a mistyped option is reported at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

from lightning_embed.errors import ConfigError, nearest


class Pooling(StrEnum):
    """Pooling of the token embeddings of a text. `auto`: that of the directory, else `mean`."""

    auto = "auto"
    mean = "mean"
    cls = "cls"
    last_token = "last_token"
    weighted_mean = "weighted_mean"
    max = "max"
    mean_sqrt_len = "mean_sqrt_len"


class Attention(StrEnum):
    """Attention of a chunk of texts. `auto`: `packed` where it gives what padded rows give, else the family's own."""

    auto = "auto"
    packed = "packed"
    sdpa = "sdpa"
    eager = "eager"
    flash_attention_2 = "flash_attention_2"


class KernelWord(StrEnum):
    """Who computes packed attention, see `lightning_embed.encoder.kernels`.

    `auto`: on a CPU `groups`. On a GPU in 16 bits the first of flash (for a model with dropout of attention), varlen,
    flash, flex and batched that has what the model needs; in float32 `batched`.
    """

    auto = "auto"
    groups = "groups"
    varlen = "varlen"
    flash = "flash"
    flex = "flex"
    batched = "batched"


FLOAT16_IN_TRAINING = (
    "encoder.dtype=float16: expected a dtype whose gradients need no scaling; use bfloat16, or float32 where the machine "
    "is slow at it."
)


class Dtype(StrEnum):
    """Dtype of the backbone's computation, whatever the `Weights` are.

    `auto`: bfloat16 in training on machines that are faster at it than at float32; a run that is resumed keeps what it
    began with. Outside of training float32, so that embeddings and scores do not depend on the machine.
    """

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Weights(StrEnum):
    """How the frozen weights of a backbone with adapters are stored in memory; a saved model has float32.

    A layer widens its weights while it computes. For a backbone of 4 billion parameters: float32 16 GB, bfloat16 8,
    int8 4.4, nf4 2.8 (QLoRA, Dettmers et al. 2023, arXiv 2305.14314), of which the embeddings, in bfloat16, are 0.8.
    """

    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"
    nf4 = "nf4"


_WORDS: Mapping[str, type[StrEnum]] = {
    "pooling": Pooling,
    "attention": Attention,
    "kernel": KernelWord,
    "dtype": Dtype,
    "weights": Weights,
}


@dataclass(frozen=True)
class EncoderOptions:
    """A pre-trained backbone, and the computation of an embedding with it.

    Args:
        path: name on the Hugging Face hub, or a Hugging Face or sentence-transformers directory.
        revision: branch, tag or commit of a hub name.
        pooling: see `Pooling`.
        include_prompt: false: the tokens of the prompt are seen by the others and left out of the pooling (as in Instructor
            and in CoDiEmb's mean pooling). None: as the directory has it, else true.
        normalize: divide every embedding by its L2 norm. The losses require it; it is added to a sentence-transformers
            directory without this step (cosine scores stay the same).
        max_length: maximum number of tokens of a text, special ones included; longer texts are truncated. None: that of
            the directory.
        prompts: text put before every text, by name: `query`, `document`, a task (`sts`), a dataset (`squad`), or one
            of these with a role (`squad-query`). Added to those of the directory.
        num_layers: keep the first layers only, as many as this: a smaller model, which is the base of the run. It is
            saved as such, and opens everywhere. None: all.
        layers: keep these layers only, counted from 0, in their order: [0, 3, 7, 11]; empty: see `num_layers`.
        attention: see `Attention`.
        kernel: see `KernelWord`.
        attention_dropout: share of the attention probabilities that is dropped in training, in [0, 1). None: the model's
            own. Not every kernel has it; the dropout of the layers is not changed.
        dtype: see `Dtype`. float16 is for inference: its gradients are not scaled here.
        weights: see `Weights`. All but float32 need adapters; int8 and nf4 also bitsandbytes, in the extra `quantized`.
            The base of a run is exported with the weights as rounded; an expert that starts from another expert rounds
            those again.
        bidirectional: let a decoder attend to later tokens too, as LLM2Vec (arXiv 2404.05961) and KaLM do. Saved
            (`is_causal: false`), so that transformers and sentence-transformers open the model so.
        trust_remote_code: run the Python code of a model's directory or hub repository. Only for code that you have
            read: it can do what you can.
        gradient_checkpointing: compute every layer twice instead of saving its activations.
        compile: fuse the operations of a layer, except attention and dropout, with torch.compile. It takes up to a
            minute at the start, and needs a C++ compiler on a CPU; new lengths are not compiled again.
        max_tokens: maximum number of tokens of a chunk, the unit of work and memory; a longer text is a chunk of its
            own. `auto`: 4,096 on a CPU (the activations fit its cache), on a GPU as many as fit a quarter of its
            memory, a power of two up to 131,072. Dropout depends on it: give a number to continue a run on a different
            kind of device.
        lora_rank: 0: all weights train; else only low-rank adapters of this rank, usually 8 to 64 (they need peft, in
            the extra `lora`). A saved model has them folded into its weights.
        lora_alpha: the output of the adapters is multiplied by lora_alpha / lora_rank.
        lora_dropout: share of an adapter's inputs set to zero in training, in [0, 1).
        lora_targets: suffixes of the names of linear layers to adapt: query, attention.output.dense; empty: all.
        peft: any adapter of layers of peft (the extra `lora`), in place of the lora options: `{_target_:
            peft.LoraConfig, r: 8, use_dora: true, target_modules: all-linear}`, with use_rslora, modules_to_save ...;
            peft.LoHaConfig, peft.IA3Config ... One that cannot be folded into weights (prompts, prefixes) is refused.

    Raises:
        ConfigError: an empty path, an unknown word, a number out of range, layers that are not ascending, both layers
            and num_layers, lora_targets without a lora_rank, both peft and lora options, or narrow weights without
            adapters.
    """

    path: str
    revision: str | None = None
    pooling: Pooling = Pooling.auto
    include_prompt: bool | None = None
    normalize: bool = True
    max_length: int | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    num_layers: int | None = None
    layers: list[int] = field(default_factory=list)
    attention: Attention = Attention.auto
    kernel: KernelWord = KernelWord.auto
    attention_dropout: float | None = None
    dtype: Dtype = Dtype.auto
    bidirectional: bool = False
    trust_remote_code: bool = False
    gradient_checkpointing: bool = False
    compile: bool = False
    max_tokens: int | str = "auto"
    lora_rank: int = 0
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    lora_targets: list[str] = field(default_factory=list)
    peft: Any = None  # a dictionary; Hydra takes a whole one from the command line only where the type is open
    weights: Weights = Weights.float32

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
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
                f"encoder.max_tokens: expected auto or at least 1, got {self.max_tokens}. Usual: 4096 to 131072."
            )
        if self.attention_dropout is not None and not 0 <= self.attention_dropout < 1:
            raise ConfigError(
                f"encoder.attention_dropout: expected a share in [0, 1) or null, got {self.attention_dropout}. Usual: 0 "
                "to 0.1."
            )
        if self.kernel is not KernelWord.auto and self.attention not in (Attention.auto, Attention.packed):
            raise ConfigError(
                f"encoder.kernel={self.kernel}: expected encoder.attention=auto or packed with it, got {self.attention}, "
                "which is the family's own attention. Leave one of them out."
            )
        self._check_layers()
        self._check_lora()
        self._check_adapters()

    @property
    def cut_option(self) -> str:
        """The option by which layers are left out; empty: all are kept."""
        return "encoder.layers" if self.layers else "encoder.num_layers" if self.num_layers is not None else ""

    @property
    def is_adapted(self) -> bool:
        """Whether adapters train in place of the weights of the backbone."""
        return bool(self.lora_rank or self.peft)

    def _check_layers(self) -> None:
        if self.num_layers is not None and self.num_layers < 1:
            raise ConfigError(
                f"encoder.num_layers: expected at least 1 or null (all), got {self.num_layers}. Usual: a third of them."
            )
        if self.layers and (self.layers[0] < 0 or any(a >= b for a, b in pairwise(self.layers))):
            raise ConfigError(
                f"encoder.layers: expected ascending numbers from 0 on, each once, got {self.layers}. Usual: [0, 3, 7, "
                "11] of twelve."
            )
        if self.layers and self.num_layers is not None:
            raise ConfigError(
                f"encoder.layers={self.layers}: expected no num_layers with it, got {self.num_layers}. Leave one of them out."
            )

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

    def _check_adapters(self) -> None:
        short = [name for name in ("lora_rank", "lora_targets", "lora_dropout") if getattr(self, name)]
        if self.peft and short:
            raise ConfigError(
                f"encoder.peft: expected no lora options with it, got {', '.join(short)}. Give r, target_modules ... in "
                "encoder.peft, or leave encoder.peft out."
            )
        if self.peft and not (isinstance(self.peft, dict) and isinstance(self.peft.get("_target_"), str)):
            raise ConfigError(
                "encoder.peft: expected a _target_ and its options, such as {_target_: peft.LoraConfig, r: 8}, got "
                f"{self.peft}. Add the _target_."
            )
        if self.weights is not Weights.float32 and not self.is_adapted:
            why = (
                "rounds away updates smaller than 1/256 of a weight. For computation in bfloat16 give encoder.dtype="
                "bfloat16"
                if self.weights is Weights.bfloat16
                else "has no gradient"
            )
            raise ConfigError(
                f"encoder.weights={self.weights}: expected adapters (encoder.lora_rank=32), got full training, whose "
                f"weights must be float32: {self.weights} {why}; or set encoder.weights=float32."
            )
