"""The configurations of `encoders.py`: families, poolings, heads, prompts and tokenizers; every one at least twice."""

from collections.abc import Mapping

from encoder_models import Configuration

_MIXED = {"packed": r"cannot run packed \(.*mix\)"}  # its attention is its own, or more than attention joins tokens
_BIASED = {"packed": r"cannot run packed \(its attention has position_bias\)"}
_PADDED = {  # its states depend on the padding behind a text, in any library
    **dict.fromkeys(("loaded", "padded", "cached", "checkpointing", "lora"), "change with the padding behind a text"),
    **_MIXED,
}
_WHOLE = {"checkpointing": "has no checkpointing of its layers"}

REFUSED: Mapping[str, Mapping[str, str]] = {
    "albert": _WHOLE,
    "mpnet": {**_MIXED, **_WHOLE},
    "deberta": _MIXED,
    "deberta-v2": _MIXED,
    "xlnet": {**_MIXED, **_WHOLE},
    "megatron-bert": _MIXED,
    "rembert": _MIXED,
    "roformer": _MIXED,
    "convbert": _PADDED,
    "funnel": _PADDED,
    "t5": _BIASED,
    "mt5": _BIASED,
    "umt5": _BIASED,
    "gpt2": {"lora": "has no linear layers to adapt"},
    "gpt_neo": _MIXED,
    "gptj": _MIXED,
    "bloom": _MIXED,
    "mpt": _MIXED,
    "falcon": _MIXED,
    "lfm2": _MIXED,
    "mamba": {**_MIXED, "lora": "peft cannot put Lora into the layers of .*Mamba"},
}
"""Family, or family and note -> cell -> pattern of the sentence that refuses it."""

_BOTH_WAYS = {"is_causal": False}
_NO_WINDOW = {"use_sliding_window": False, "sliding_window": None, "layer_types": ["full_attention"] * 2}
_ONLY_WINDOWS = {"layer_types": ["sliding_attention"] * 2}

CONFIGURATIONS = [
    # encoders
    Configuration("bert"),
    Configuration("bert", "cls", "normalize", "default"),
    Configuration("bert", "mean", "dense tanh"),
    Configuration("bert", "mean", "layers"),
    Configuration("bert", "weighted_mean", "normalize", "excluded"),
    Configuration("bert", "mean and max", "two dense", "excluded", "left"),
    Configuration("roberta", "mean", "normalize", "none", "second"),
    Configuration("roberta", "cls", "norm", "default", "second"),
    Configuration("xlm-roberta", "cls", None, "none", "second"),
    Configuration("xlm-roberta", "max", "layers", "none", "second"),
    Configuration("camembert", "cls and mean", "dense", "none", "second"),
    Configuration("distilbert", "mean", None),
    Configuration("distilbert", "mean", "layers", "default"),
    Configuration("electra", "mean_sqrt_len", "normalize"),
    Configuration("electra", "mean and max", "dense"),
    Configuration("albert", "mean", None),
    Configuration("albert", "cls", "dense tanh", "excluded"),
    Configuration("mpnet", "mean", "normalize", "none", "second"),
    Configuration("mpnet", "max", None, "none", "second"),
    Configuration("deberta", "mean", None),
    Configuration("deberta-v2", "mean", "normalize", "default"),
    Configuration("deberta-v2", "last_token", "norm"),
    Configuration("xlnet", "mean", None),
    Configuration("xlnet", "last_token", "normalize", "none", "left"),
    Configuration("modernbert", "cls", "normalize", "default"),
    Configuration("modernbert", "mean", None),
    Configuration("nomic_bert", "mean", "normalize", "default"),
    Configuration("nomic_bert", "cls", None),
    Configuration("eurobert", "mean", None),
    Configuration("eurobert", "cls and mean", "norm"),
    Configuration("ernie", "mean", "normalize"),
    Configuration("megatron-bert", "mean", "dense"),
    Configuration("rembert", "cls", "normalize"),
    Configuration("roformer", "mean", None),
    Configuration("data2vec-text", "weighted_mean", "normalize", "none", "second"),
    Configuration("convbert", "mean", None),
    Configuration("funnel", "mean", None),
    Configuration("gte", "cls", "normalize"),
    Configuration("jina_embeddings_v3", "mean", "normalize", "default"),
    # encoder-decoders, of which the encoder runs
    Configuration("t5", "mean", "dense", "none"),
    Configuration("t5", "mean", "no normalize", "excluded"),
    Configuration("t5", "mean", None, note="whole", whole=True),
    Configuration("mt5", "mean_sqrt_len", None),
    Configuration("umt5", "mean", "two dense", note="whole", whole=True),
    # decoders
    Configuration("gemma", "mean", "normalize"),
    Configuration("gemma2", "mean", None, note="capped and windows"),
    Configuration("gemma2", "last_token", "normalize", "default", "left", "capped and windows"),
    Configuration("gemma3_text", "last_token", None, note="windows"),
    Configuration(
        "gemma3_text", "mean", "two dense", "default", note="both ways", changes={"use_bidirectional_attention": True}
    ),
    Configuration("llama", "last_token", "normalize", "default", "left"),
    Configuration("llama", "weighted_mean", None, "none", "none"),
    Configuration("llama", "mean", "normalize", note="both ways", changes=_BOTH_WAYS),
    Configuration("mistral", "last_token", "normalize", "default", "left", "windows"),
    Configuration("mistral", "mean", "norm", "excluded", note="both ways windows", changes=_BOTH_WAYS),
    Configuration("ministral", "last_token", None, note="windows"),
    Configuration("qwen2", "last_token", "normalize", "default", "left", "windows"),
    Configuration("qwen2", "mean", "dense tanh", note="no windows", changes=_NO_WINDOW),
    Configuration("qwen3", "last_token", "normalize", "default", "left", "windows"),
    Configuration("qwen3", "last_token", None, "none", "left", "no windows", _NO_WINDOW),
    Configuration("qwen3", "mean", "dense", "excluded", note="both ways", changes={**_NO_WINDOW, **_BOTH_WAYS}),
    Configuration("qwen3", "mean", "layers", note="windows", changes=_ONLY_WINDOWS),
    Configuration("phi", "last_token", "normalize"),
    Configuration("phi3", "last_token", "no normalize", note="windows"),
    Configuration("granite", "mean", None),
    Configuration("minicpm3", "weighted_mean", "normalize", "default"),
    Configuration("gpt2", "weighted_mean", None, "none", "none"),
    Configuration("gpt2", "last_token", "no normalize", "none", "left"),
    Configuration("gpt_neo", "weighted_mean", "normalize", "none", "none", "windows"),
    Configuration("gpt_neox", "last_token", None),
    Configuration("gptj", "weighted_mean", "normalize", "none", "left"),
    Configuration("opt", "weighted_mean", None, "none", "second"),
    Configuration("bloom", "weighted_mean", "normalize"),
    Configuration("bloom", "mean", "dense", "none", "left"),
    Configuration("mpt", "mean", None),
    Configuration("falcon", "mean", None),
    Configuration("olmo2", "last_token", None),
    Configuration("smollm3", "last_token", "normalize"),
    Configuration("gpt_oss", "last_token", "normalize", note="sinks and windows"),
    Configuration("qwen3_moe", "last_token", None),
    Configuration("mixtral", "mean", None),
    Configuration("lfm2", "last_token", None, note="convolutions"),
    Configuration("mamba", "last_token", None),
]
