"""What is measured when a model is opened: whether it runs packed, attends both ways, and reads texts and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_embed.encoder.attention import PACKED
from lightning_embed.encoder.chunk import Chunk
from lightning_embed.encoder.kernels.base import Call
from lightning_embed.types import Tokens

TEXTS = ["a few words", "and a few more words, which follow the others", "one"]
_TOLERANCE = 1e-4  # of the largest number, in float32; texts that are mixed differ by a tenth and more
_TOLERANCE_16_BITS = 3e-2


@dataclass(frozen=True)
class Packing:
    """How a model runs packed.

    Args:
        first_position: position id of a text's first token.
        call: what its layers ask of their attention in training, the most of any of them; zeros where nothing attends.
    """

    first_position: int
    call: Call


def packing(backbone: Any, tokens: Tokens, padding: int) -> Packing | str:
    """Switch a backbone to packed attention, if texts in one row have the states that they have in padded rows.

    Args:
        backbone: a model of transformers, with the attention that it has by default.
        tokens: texts of unequal lengths.
        padding: id of the padding token.

    Returns:
        How; or the reason why it cannot run packed, and then the backbone is as before. It is measured for each model:
        another one of the same configuration may have other weights.
    """
    with _plain(backbone):
        expected = _padded(backbone, tokens, padding)
    if not expected.isfinite().all():  # its opener reports it
        return "its states are not finite"
    before, reason = backbone.config._attn_implementation, "packed texts would mix"
    try:
        backbone.set_attn_implementation(PACKED)
        with _plain(backbone):
            for first in (0, padding + 1):  # RoBERTa's positions start behind the id of the padding token
                if _equal(_chunk(backbone, tokens).run_packed(backbone, first).last_hidden_state[0], expected):
                    return Packing(first, _asked(backbone, _chunk(backbone, tokens), first))
    except Exception as error:  # of any class: families check their arguments in many ways
        reason = str(error).strip().partition("\n")[0].rstrip(".")
    backbone.set_attn_implementation(before)
    return reason


def sees_later_tokens(backbone: Any, text: Tokens) -> bool:
    """Whether the state of a text's first token depends on its last one."""
    ids = text.ids[None].repeat(2, 1).to(backbone.device)
    ids[1, -1] = ids[0, 1]
    with _plain(backbone):
        first, second = backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
    return not torch.allclose(first, second, rtol=1e-4, atol=1e-5)


def depends_on_padding(backbone: Any, tokens: Tokens, padding: int) -> bool:
    """Whether a text has other states beside a longer one than alone, as where convolutions read its padding."""
    with _plain(backbone):
        together = _padded(backbone, tokens, padding)
        texts = sorted(torch.split(tokens.ids, tokens.lengths.tolist()), key=len, reverse=True)
        alone = [_padded(backbone, Tokens.of([text.tolist()]), padding) for text in texts]
    return _differ(torch.cat(alone), together)


def depends_on_types(backbone: Any, tokenizer: Any) -> bool:
    """Whether the types that a tokenizer gives to tokens (segments) change their states; an `Encoder` passes none."""
    name = "token_type_ids"
    if name not in getattr(tokenizer, "model_input_names", ()) or name not in signature(backbone.forward).parameters:
        return False
    given = {key: values.to(backbone.device) for key, values in tokenizer(TEXTS[:1], return_tensors="pt").items()}
    with _plain(backbone):
        expected = backbone(**given).last_hidden_state[0]
        given.pop(name)
        return _differ(backbone(**given).last_hidden_state[0], expected)


def _asked(backbone: Any, texts: Chunk, first: int) -> Call:
    """What the layers ask of their attention in training; the state of random generators stays as it was."""
    calls: list[Call] = []
    with torch.random.fork_rng(devices=()), _plain(backbone, train=True):
        texts.run_packed(backbone, first, calls=calls)
    return Call(
        max((call.head_dim for call in calls), default=0),
        max((call.value_dim for call in calls), default=0),
        max((call.dropout for call in calls), default=0.0),
        any(call.capped for call in calls),
        any(call.sinks for call in calls),
    )


def _equal(found: Float[Tensor, "total dim"], expected: Float[Tensor, "total dim"]) -> bool:
    tolerance = _TOLERANCE if expected.dtype is torch.float32 else _TOLERANCE_16_BITS
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


def _differ(found: Float[Tensor, "total dim"], expected: Float[Tensor, "total dim"]) -> bool:
    """Whether two results differ; one that is not finite is reported by the opener."""
    return bool(expected.isfinite().all()) and not _equal(found, expected)


def _padded(backbone: Any, tokens: Tokens, padding: int) -> Float[Tensor, "total dim"]:
    chunk = _chunk(backbone, tokens)
    return chunk.flatten(chunk.run_padded(backbone, padding).last_hidden_state)


def _chunk(backbone: Any, tokens: Tokens) -> Chunk:
    return Chunk.of(tokens, tokens.lengths.argsort(descending=True), backbone.device)


@contextmanager
def _plain(backbone: nn.Module, train: bool = False) -> Iterator[None]:
    training = backbone.training
    backbone.train(train)
    try:
        with torch.no_grad():
            yield
    finally:
        backbone.train(training)
