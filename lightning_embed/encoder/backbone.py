"""Loading of a backbone and its tokenizer with transformers, with errors of one sentence."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig
from transformers.utils import logging as log

from lightning_embed.encoder.attention import FAMILIES, PACKED, first_position
from lightning_embed.encoder.manifest import Manifest, refuse_broken_json
from lightning_embed.encoder.options import Attention, EncoderOptions
from lightning_embed.encoder.tokenize import TextTokenizer
from lightning_embed.errors import CheckpointError, ConfigError

_UNLIMITED = 10**9  # tokenizers without a limit have 1e30


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and warnings of transformers; problems that matter are raised as our own errors."""
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.ERROR)
    log.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_backbone(options: EncoderOptions, manifest: Manifest) -> tuple[Any, frozenset[str]]:
    """Load the backbone in float32, and the names of missing parameters (initialised with a fixed seed).

    Raises:
        CheckpointError: the backbone cannot be loaded.
        ConfigError: `attention: packed` for a family that does not support it, or no layers to compile.
    """
    config = _load(AutoConfig, options, manifest)
    if config.is_encoder_decoder:
        raise CheckpointError(
            f"{options.path}: expected an encoder or a decoder, got an encoder-decoder ({config.model_type}). "
            "Export its encoder alone, or use a different model."
        )
    if hasattr(config, "use_cache"):
        config.use_cache = False  # keys and values of earlier calls: embeddings do not need them
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(0)
        backbone, report = _load(
            AutoModel,
            options,
            manifest,
            config=config,
            dtype=torch.float32,
            attn_implementation=_implementation(options, config),
            output_loading_info=True,
        )
    if options.gradient_checkpointing:
        # transformers 5 has it under two names, the older one with a warning
        newer = getattr(backbone, "activation_checkpointing_enable", None)
        (newer or backbone.gradient_checkpointing_enable)({"use_reentrant": False})
    if options.compile:
        layers = max((part for part in backbone.modules() if isinstance(part, nn.ModuleList)), key=len, default=())
        if not layers:
            raise ConfigError(f"encoder.compile: no list of layers found in {options.path}. Leave it out.")
        for layer in layers:
            layer.compile(dynamic=True)
    return backbone, frozenset(report["missing_keys"])


def load_tokenizer(options: EncoderOptions, manifest: Manifest, backbone: Any) -> TextTokenizer:
    """Load the tokenizer that belongs to `backbone`.

    Raises:
        CheckpointError: no tokenizer, no padding token, or more tokens than the backbone has embeddings.
        ConfigError: `max_length` exceeds the positions of the backbone.
    """
    tokenizer = _load(AutoTokenizer, options, manifest)
    rows = backbone.get_input_embeddings().num_embeddings
    problems = {
        "no vocabulary": not tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens),
        "no padding token": tokenizer.pad_token_id is None,
        f"{len(tokenizer)} tokens for {rows} embeddings": len(tokenizer) > rows,
    }
    for problem in (text for text, found in problems.items() if found):
        raise CheckpointError(
            f"{options.path}: expected the tokenizer of the model, with a padding token, got one with {problem}. "
            "Save the right tokenizer into the directory (tokenizer.save_pretrained)."
        )
    return TextTokenizer(tokenizer, _max_length(options, manifest, tokenizer, backbone.config), manifest.lowercase)


def _max_length(options: EncoderOptions, manifest: Manifest, tokenizer: Any, config: PretrainedConfig) -> int:
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < _UNLIMITED else []
    positions = getattr(config, "max_position_embeddings", None) or -1  # -1: no limit, as in XLNet
    if positions > 0:
        positions -= first_position(config)
        limits.append(positions)
    wanted = options.max_length or min([*limits, manifest.max_length or _UNLIMITED], default=_UNLIMITED)
    if wanted == _UNLIMITED:
        raise ConfigError(f"{options.path} has no maximum length. Set encoder.max_length, for example to 512.")
    if 0 < positions < wanted:
        raise ConfigError(
            f"encoder.max_length: expected at most the {positions} positions of {options.path}, got {wanted}. Lower it."
        )
    return wanted


def _implementation(options: EncoderOptions, config: PretrainedConfig) -> str | None:
    """The attention's name in transformers; None: the default for this family (sdpa where it exists)."""
    packable = config.model_type in FAMILIES
    match options.attention:
        case Attention.auto:
            return PACKED if packable else None
        case Attention.packed if not packable:
            raise ConfigError(
                f"encoder.attention=packed: {options.path} is a {config.model_type} model; verified are "
                f"{', '.join(FAMILIES)}. Use encoder.attention=auto: its chunks run padded."
            )
        case Attention.packed:
            return PACKED
        case named:
            return str(named)


def _load(auto: Any, options: EncoderOptions, manifest: Manifest, **arguments: Any) -> Any:
    try:
        with quiet():
            return auto.from_pretrained(
                options.path, revision=options.revision or "main", subfolder=manifest.subfolder, **arguments
            )
    except Exception as error:  # transformers raises errors of many types
        refuse_broken_json(options.path, manifest.subfolder)
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"encoder.path={options.path!r}: expected a hub name, or a directory with config.json, "
            f"weights and a tokenizer; {auto.__name__} reports: {reason.rstrip('.')}. "
            "Check the name, or the files in it."
        ) from error
