"""Loading of a backbone and its tokenizer with transformers, with errors of one sentence."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING
from transformers.utils import logging as log

from lightning_embed.encoder.layer_cut import cut_layers
from lightning_embed.encoder.manifest import STATIC, Manifest, refuse_broken_json
from lightning_embed.encoder.options import Attention, EncoderOptions
from lightning_embed.encoder.tokenize import TextTokenizer
from lightning_embed.encoder.weights import load_arguments, store
from lightning_embed.errors import CheckpointError, ConfigError

_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
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
    """Load the backbone with `options.weights`, and the names of missing parameters (initialised with a fixed seed).

    Of an encoder-decoder (T5), the encoder is loaded.

    Raises:
        CheckpointError: the backbone cannot be loaded.
        ConfigError: layers that cannot be left out.
    """
    _check_cut(options, manifest)
    if manifest.body == STATIC:
        from lightning_embed.encoder.static import StaticBackbone

        return StaticBackbone(_load_static(options, manifest)).float(), frozenset()
    config = _load(AutoConfig, options, manifest)
    encoder_alone = type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING
    if config.is_encoder_decoder and not encoder_alone:
        raise CheckpointError(
            f"{options.path}: expected an encoder or a decoder, got an encoder-decoder ({config.model_type}) whose "
            "encoder transformers does not offer alone. Use a different model."
        )
    if hasattr(config, "use_cache"):
        config.use_cache = False  # keys and values of earlier calls: embeddings do not need them
    if options.bidirectional:
        for part in {id(part): part for part in (config, config.get_text_config())}.values():
            part.is_causal = False
    dropouts = _dropouts(config, options)
    for name in dropouts:
        setattr(config, name, options.attention_dropout)
    named = options.attention not in (Attention.auto, Attention.packed)
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(0)
        backbone, report = _load(
            AutoModelForTextEncoding if encoder_alone else AutoModel,
            options,
            manifest,
            config=config,
            **load_arguments(options.weights),
            # None: the default of this family, sdpa where it exists
            attn_implementation=str(options.attention) if named else None,
            output_loading_info=True,
        )
    missing = report["missing_keys"]
    if options.cut_option:
        absent = {id(weight) for name, weight in backbone.state_dict(keep_vars=True).items() if name in missing}
        cut_layers(backbone, options)
        missing = [name for name, weight in backbone.state_dict(keep_vars=True).items() if id(weight) in absent]
    for name, own in dropouts.items():  # its layers have read it; a saved model has its own
        setattr(backbone.config, name, own)
    store(backbone, options.weights)
    return backbone, frozenset(missing)


def _check_cut(options: EncoderOptions, manifest: Manifest) -> None:
    """Refuse to leave out layers that are not there, or that the head counts."""
    kinds = [manifest.body, *(module.kind for module in manifest.modules or ())]
    for kind in (STATIC, "WeightedLayerPooling"):
        if options.cut_option and kind in kinds:
            why = "has no layers" if kind == STATIC else "has a weight for each layer"
            raise ConfigError(f"{options.cut_option}: the {kind} of {options.path} {why}. Leave it out.")


def _dropouts(config: Any, options: EncoderOptions) -> dict[str, Any]:
    """The entries of a configuration that `attention_dropout` replaces, with their values."""
    if options.attention_dropout is None:
        return {}
    found = {name: getattr(config, name) for name in _ATTENTION_DROPOUT if hasattr(config, name)}
    if not found:
        raise ConfigError(
            f"encoder.attention_dropout: {options.path} ({config.model_type}) has no dropout of its own for attention. "
            "Leave the option out."
        )
    return found


def prepare_layers(options: EncoderOptions, backbone: Any) -> None:
    """Checkpoint or compile the layers of a backbone, as the options say.

    Raises:
        ConfigError: the family cannot checkpoint, or has no layers to compile.
    """
    if options.gradient_checkpointing:
        # transformers 5 has it under two names, the older one with a warning
        newer = getattr(backbone, "activation_checkpointing_enable", None)
        try:
            (newer or backbone.gradient_checkpointing_enable)({"use_reentrant": False})
        except (ValueError, AttributeError) as error:
            raise ConfigError(
                f"encoder.gradient_checkpointing: {backbone.config.model_type} has no checkpointing of its layers. "
                "Leave it out; step_mode=cached saves memory too."
            ) from error
    if options.compile:
        layers = max((part for part in backbone.modules() if isinstance(part, nn.ModuleList)), key=len, default=())
        if not layers:
            raise ConfigError(f"encoder.compile: no list of layers found in {options.path}. Leave it out.")
        for layer in layers:
            layer.compile(dynamic=True)


def load_tokenizer(options: EncoderOptions, manifest: Manifest, backbone: Any) -> TextTokenizer:
    """Load the tokenizer that belongs to `backbone`.

    Raises:
        CheckpointError: no tokenizer, no padding token, or more tokens than the backbone has embeddings.
        ConfigError: `max_length` exceeds the positions of the backbone.
    """
    if manifest.body == STATIC:
        from lightning_embed.encoder.static import StaticTokenizer

        return StaticTokenizer(backbone.words, options.max_length)
    tokenizer = _load(AutoTokenizer, options, manifest)
    if tokenizer.pad_token_id is None:  # language models have none; it is masked, so any will do
        tokenizer.pad_token = tokenizer.eos_token
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
    return TextTokenizer(tokenizer, _max_length(options, manifest, tokenizer, backbone), manifest.lowercase)


def _max_length(options: EncoderOptions, manifest: Manifest, tokenizer: Any, backbone: nn.Module) -> int:
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < _UNLIMITED else []
    if positions := _positions(backbone):
        limits.append(positions)
    wanted = options.max_length or min([*limits, manifest.max_length or _UNLIMITED], default=_UNLIMITED)
    if wanted == _UNLIMITED:
        raise ConfigError(f"{options.path} has no maximum length. Set encoder.max_length, for example to 512.")
    if 0 < positions < wanted:
        raise ConfigError(
            f"encoder.max_length: expected at most the {positions} positions of {options.path}, got {wanted}. Lower it."
        )
    return wanted


def _positions(backbone: Any) -> int:
    """Tokens of the longest text that a backbone has positions for; 0: no limit, as in XLNet and T5."""
    config = backbone.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or -1
    # learned positions of RoBERTa and MPNet start behind the id of the padding token
    behind = [
        table.num_embeddings - table.padding_idx - 1
        for name, table in backbone.named_modules()
        if isinstance(table, nn.Embedding) and name.endswith("position_embeddings") and table.padding_idx is not None
    ]
    return max(0, min([limit, *behind] if limit > 0 else behind, default=0))


def _load_static(options: EncoderOptions, manifest: Manifest) -> Any:
    from lightning_embed.encoder.library import modules

    try:
        return modules.StaticEmbedding.load(options.path, subfolder=manifest.subfolder, revision=options.revision)
    except Exception as error:  # of any class: tokenizers and safetensors have their own
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise CheckpointError(
            f"{options.path}: its {STATIC} does not open ({type(error).__name__}: {reason}). Copy or download it again."
        ) from error


def _load(auto: Any, options: EncoderOptions, manifest: Manifest, **arguments: Any) -> Any:
    if not Path(options.path).is_dir() and (options.path[0] in "/.~" or options.path.count("/") > 1):
        raise CheckpointError(
            f"encoder.path={options.path!r}: expected a directory, found none. Check the path; a name on the hub is "
            "owner/model."
        )
    try:
        with quiet():
            return auto.from_pretrained(
                options.path,
                revision=options.revision or "main",
                subfolder=manifest.subfolder,
                trust_remote_code=options.trust_remote_code,
                **arguments,
            )
    except Exception as error:  # transformers raises errors of many types
        refuse_broken_json(options.path, manifest.subfolder)
        if "trust_remote_code" in str(error) and not options.trust_remote_code:
            raise CheckpointError(
                f"{options.path}: its model or tokenizer is Python code in its directory, which is not run. Use a "
                "different model; or read the code, and train with encoder.trust_remote_code=true."
            ) from error
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"encoder.path={options.path!r}: expected a hub name, or a directory with config.json, "
            f"weights and a tokenizer; {auto.__name__} reports: {reason.rstrip('.')}. "
            "Check the name, or the files in it."
        ) from error
