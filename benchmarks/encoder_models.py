"""Small random models for `encoders.py`: directories of any family, and their embeddings as other libraries compute them."""

import shutil
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn.functional import normalize

LETTERS = string.ascii_lowercase
WORDS = [
    "the",
    "a",
    "red",
    "old",
    "small",
    "cat",
    "dog",
    "bird",
    "house",
    "river",
    "sees",
    "likes",
    "runs",
    "in",
    "near",
]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
LENGTH = 64  # tokens of a text
WINDOW = 5
LONG = " ".join(f"the {WORDS[2 + i % 3]} {WORDS[5 + i % 5]} {WORDS[10 + i % 3]} near a" for i in range(14))  # is cut
TEXTS = [
    "cat",
    "the red cat",
    "a dog in the old house",
    "the small bird sees a river near the house",
    "a bird likes the dog",
    " ".join(["the old dog runs near the small river in"] * 3),
    "dog",
    "a red bird",
    "the dog runs in the house",
    LONG,
    "the cat sees the river",
    "zebra quiz the a",
]

_SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 80,
}  # fmt: skip
_LLAMA = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 4, "decoder_start_token_id": 0}  # fmt: skip
_DEBERTA = {**_SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
_MIXED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_WINDOWS = {"use_sliding_window": True, "max_window_layers": 0, **_MIXED}

SHAPES: dict[str, Mapping[str, Any]] = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 80},
    "electra": {**_SIZES, "embedding_size": 16},
    "albert": {**_SIZES, "embedding_size": 16},
    "deberta": _DEBERTA,
    "deberta-v2": {**_DEBERTA, "position_buckets": 8, "position_biased_input": False},
    "xlnet": {"d_model": 32, "d_inner": 48, "n_layer": 2, "n_head": 4},
    "modernbert": {**_SIZES, "cls_token_id": 2, "sep_token_id": 3, "global_attn_every_n_layers": 2, "local_attention": 2 * WINDOW},
    "nomic_bert": {**_SIZES, "head_dim": 8},
    "eurobert": _LLAMA,
    "rembert": {**_SIZES, "input_embedding_size": 16, "output_embedding_size": 16},
    "roformer": {**_SIZES, "embedding_size": 32},
    "convbert": {**_SIZES, "embedding_size": 32, "conv_kernel_size": 3},
    "funnel": {"block_sizes": [1, 1], "block_repeats": [1, 1], "num_decoder_layers": 1, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48, "architectures": ["FunnelModel"]},
    "gemma": _LLAMA,
    "gemma2": {**_LLAMA, **_MIXED, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 3.0},
    "gemma3_text": {**_LLAMA, **_MIXED, "query_pre_attn_scalar": 8},
    "llama": _LLAMA,
    "mistral": {**_LLAMA, "sliding_window": WINDOW},
    "ministral": {**_LLAMA, **_MIXED},
    "qwen2": {**_LLAMA, **_WINDOWS},
    "qwen3": {**_LLAMA, **_WINDOWS},
    "phi3": {**_SIZES, "num_key_value_heads": 2, "sliding_window": WINDOW},
    "granite": {**_LLAMA, "embedding_multiplier": 2.0, "residual_multiplier": 0.5},
    "minicpm3": {
        **_SIZES, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8, "v_head_dim": 12, "head_dim": 8,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 80},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 80, "rotary_dim": 4},
    "gpt_neo": {
        "hidden_size": 32, "intermediate_size": 48, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 80,
        "attention_types": [[["global", "local"], 1]], "window_size": WINDOW,
    },
    "opt": {**_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 80},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 80},
    "olmo2": {**_SIZES, "num_key_value_heads": 2},
    "smollm3": {**_SIZES, "num_key_value_heads": 2, "no_rope_layer_interval": 2},
    "gpt_oss": {**_LLAMA, **_MIXED, "num_local_experts": 2, "num_experts_per_tok": 1},
    "qwen3_moe": {**_LLAMA, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
    "mixtral": {**_LLAMA, "num_local_experts": 2, "num_experts_per_tok": 1},
    "t5": _T5,
    "mt5": _T5,
    "umt5": _T5,
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "lfm2": {**_SIZES, "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]},
}  # fmt: skip
"""The sizes of a family's configuration; of others those of BERT."""

POOLINGS = {
    "mean": "mean", "cls": "cls", "max": "max", "last_token": "lasttoken", "weighted_mean": "weightedmean",
    "mean_sqrt_len": "mean_sqrt_len_tokens", "cls and mean": ("cls", "mean"), "mean and max": ("mean", "max"),
}  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """A model directory.

    Args:
        family: model_type of transformers.
        pooling: a word of `POOLINGS`.
        head: the modules after the pooling, see `_modules`; None: a Hugging Face directory, without modules.
        prompt: none, default, or excluded (default, and the pooling leaves it out).
        tokens: padding on the right, on the left, "second" (its id is 1), or none: without a padding token, and
            without special ones.
        note: what `changes` are.
        changes: of the configuration of the family.
        whole: save an encoder-decoder, not the encoder alone.
    """

    family: str
    pooling: str = "mean"
    head: str | None = None
    prompt: str = "none"
    tokens: str = "right"
    note: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False

    @property
    def name(self) -> str:
        """Readable and unique."""
        prompt = {"none": "", "default": "prompt", "excluded": "prompt left out"}[self.prompt]
        tokens = {"right": "", "left": "padded left", "second": "padding 1", "none": "no padding token"}[self.tokens]
        parts = (self.family, self.note, self.pooling, self.head or "plain", prompt, tokens)
        return "-".join(part.replace(" ", "_") for part in parts if part)


def write(found: Configuration, folder: Path) -> Path:
    """Write the directory of a configuration."""
    words = list(VOCABULARY)
    if found.tokens == "second":
        words[:2] = reversed(words[:2])
    padding = None if found.tokens == "none" else words.index("[PAD]")
    ids = {"vocab_size": len(words), "pad_token_id": padding, "bos_token_id": 2, "eos_token_id": 3}
    config = transformers.AutoConfig.for_model(
        found.family, **{**SHAPES.get(found.family, _SIZES), **ids, **found.changes}
    )
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)  # so that all ways to run the texts are comparable
    model = _random(config, found.whole)
    model.save_pretrained(folder)
    _tokenizer(found.tokens, words).save_pretrained(folder)
    if found.head is not None:
        _add_modules(found, folder)
    return folder


def _random(config: Any, whole: bool) -> Any:
    """A model whose attention is far from even: weights of the initial size would hide a wrong position or mask."""
    torch.manual_seed(0)
    model = (transformers.AutoModel if whole else _auto(config)).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model


def _auto(config: Any) -> Any:
    """The class that opens the encoder alone: T5's, saved alone, no longer calls itself an encoder-decoder."""
    alone = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
    return transformers.AutoModelForTextEncoding if alone else transformers.AutoModel


def _tokenizer(kind: str, words: list[str]) -> Any:
    if kind != "none":
        side = "left" if kind == "left" else "right"
        vocabulary = {word: number for number, word in enumerate(words)}
        # decoders are padded on the left, and some would add types of tokens that their own tokenizers do not give
        types = {"model_input_names": ["input_ids", "attention_mask"]} if kind == "left" else {}
        return transformers.BertTokenizer(vocab=vocabulary, model_max_length=LENGTH, padding_side=side, **types)
    from tokenizers import Tokenizer, models, pre_tokenizers

    # as GPT-2's: one special token, which is not added
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", eos_token="[SEP]", model_max_length=LENGTH
    )


def _add_modules(found: Configuration, folder: Path) -> None:
    """The same model as sentence-transformers saves it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer, WeightedLayerPooling

    torch.manual_seed(1)
    options = {}
    if layers := found.head == "layers":
        options["config_args"] = {"output_hidden_states": True}
    body = Transformer(str(folder), **options)
    dim = body.get_word_embedding_dimension()
    before = [WeightedLayerPooling(dim, num_hidden_layers=2, layer_start=1)] if layers else []
    pooling = Pooling(dim, pooling_mode=POOLINGS[found.pooling], include_prompt=found.prompt != "excluded")
    model = SentenceTransformer(
        modules=[body, *before, pooling, *_modules(found.head, pooling.pooling_output_dimension)],
        device="cpu",
        prompts={} if found.prompt == "none" else {"query": "small: ", "document": "a: "},
        default_prompt_name=None if found.prompt == "none" else "query",
    )
    with torch.no_grad():
        for module in list(model)[1:]:
            for parameter in module.parameters():
                parameter += 0.1 * torch.randn(parameter.shape)
    shutil.rmtree(folder)
    model.save_pretrained(str(folder))


def _modules(head: str | None, dim: int) -> list[Any]:
    """The modules after a pooling of `dim` numbers."""
    from sentence_transformers.models import Dense, LayerNorm, Normalize

    plain = {"bias": False, "activation_function": torch.nn.Identity()}
    heads = {
        "normalize": lambda: [Normalize()],
        "no normalize": list,
        "layers": lambda: [Normalize()],
        "dense": lambda: [Dense(dim, 16, **plain), Normalize()],
        "dense tanh": lambda: [Dense(dim, 24, bias=True, activation_function=torch.nn.Tanh())],
        "norm": lambda: [LayerNorm(dim), Normalize()],
        "two dense": lambda: [Dense(dim, 48, **plain), Dense(48, dim, **plain), Normalize()],
    }
    return heads[head]()


def library_model(folder: Path) -> Any:
    """A directory as sentence-transformers opens it."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    if model.tokenizer.pad_token is None:  # it cannot make a batch of one text
        model.tokenizer.pad_token = model.tokenizer.eos_token
    return model


def embeddings_by_hand(folder: Path, pooling: str) -> Tensor:
    """By transformers' model of a plain directory, text by text, pooled here and normalised."""
    config = transformers.AutoConfig.from_pretrained(folder)
    model, tokenizer = _auto(config).from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)
    pooled = []
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=LENGTH, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        pooled.append(_pool(states, pooling))
    return normalize(torch.stack(pooled), dim=-1)


def _pool(states: Tensor, pooling: str) -> Tensor:
    weights = torch.arange(1.0, len(states) + 1)[:, None]
    return {
        "mean": lambda: states.mean(0),
        "cls": lambda: states[0],
        "last_token": lambda: states[-1],
        "max": lambda: states.max(0).values,
        "weighted_mean": lambda: (states * weights).sum(0) / weights.sum(),
        "mean_sqrt_len": lambda: states.sum(0) / len(states) ** 0.5,
    }[pooling]()
