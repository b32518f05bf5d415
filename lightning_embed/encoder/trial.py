"""A few words run through a model when it is opened: what cannot embed texts, or not by its options, is refused there."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from lightning_embed.encoder.backbone import quiet
from lightning_embed.encoder.options import Attention, EncoderOptions
from lightning_embed.encoder.packing import (
    TEXTS,
    Packing,
    depends_on_padding,
    depends_on_types,
    packing,
    sees_later_tokens,
)
from lightning_embed.encoder.tokenize import TextTokenizer
from lightning_embed.errors import CheckpointError, ConfigError, LightningEmbedError

logger = logging.getLogger(__name__)


def try_out(options: EncoderOptions, backbone: Any, tokenizer: TextTokenizer) -> Packing | None:
    """Check a backbone, and switch it to packed attention where that gives the same.

    Returns:
        How it runs packed; None: texts run in padded rows.

    Raises:
        CheckpointError: it does not embed texts, or its embeddings would depend on more than their texts.
        ConfigError: `bidirectional`, or `attention: packed`, for a model that cannot run so.
    """
    with embedding_texts(options.path, backbone), quiet():
        family = f"{options.path} ({backbone.config.model_type})"
        if options.bidirectional and not sees_later_tokens(backbone, tokenizer(TEXTS[:1])):
            raise ConfigError(
                f"encoder.bidirectional: {family} attends to earlier tokens only, whatever its configuration says. Leave "
                "it out, or use a different model."
            )
        if depends_on_types(backbone, tokenizer.tokenizer):
            raise CheckpointError(
                f"{family}: expected one type for all tokens of a text, but its tokenizer gives types (token_type_ids) "
                "that change the embeddings. Use a different model."
            )
        texts, padding = tokenizer(TEXTS), tokenizer.padding
        if options.attention in (Attention.auto, Attention.packed):
            found = packing(backbone, texts, padding)
            if isinstance(found, Packing):
                return found
            if options.attention is Attention.packed:
                raise ConfigError(
                    f"encoder.attention=packed: {family} cannot run packed ({found}). Use encoder.attention=auto: its "
                    "chunks run padded."
                )
            _log_padded(family, found)
        if depends_on_padding(backbone, texts, padding):
            raise CheckpointError(
                f"{family}: expected embeddings that depend on their texts alone, but they change with the padding "
                "behind a text, and so with the other texts of a batch. Use a different model."
            )
        return None


@contextmanager
def embedding_texts(path: str, backbone: Any) -> Iterator[None]:
    """Report what a model raises while it embeds texts.

    Raises:
        CheckpointError: of one sentence.
    """
    try:
        yield
    except LightningEmbedError:
        raise
    except Exception as error:  # of any class: whatever a family needs beside texts
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise CheckpointError(
            f"{path}: expected a model that embeds texts, but {type(backbone).__name__} reports for a few words: "
            f"{reason}. Use a different model."
        ) from error


@cache
def _log_padded(family: str, reason: str) -> None:
    """Log once per process: a run opens a model many times."""
    logger.info("%s runs padded, in chunks of similar lengths: %s.", family, reason)
