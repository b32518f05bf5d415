"""Packed attention: many texts in one row without padding; every token attends to its own text only.

        padded, 3 x 5             packed, 1 x 9, layout.sizes = [5, 2, 2]
        a a a a a
        b b . . .                 a a a a a b b c c
        c c . . .

Everything except attention works token by token, so the only other change is position ids that restart with each text.
Who computes the attention is a kernel (kernels/), chosen for the device and for the rule of the layer. The function,
and its masks, are registered with transformers: no backbone is rewritten. Whether a model can run so is measured when
it is opened (packing.py).
"""

from typing import Any, no_type_check

from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from lightning_embed.encoder.kernels.base import Call
from lightning_embed.encoder.layout import Layout, Pattern, pattern

PACKED = "lightning_embed_packed"

# Arguments of a family's attention without effect on its result: masks and positions are in the row already.
_WITHOUT_EFFECT = {
    "cache_position",
    "deterministic",
    "head_mask",
    "is_causal",
    "output_attentions",
    "output_hidden_states",
    "position_ids",
    "return_dict",
    "sliding_window",
    "token_type_ids",
    "use_cache",
}


@no_type_check  # torch.compile traces it, and cannot trace the checks of shapes in the tests
def packed_attention(
    module: nn.Module,  # noqa: ARG001  the first argument of any attention function
    query: Float[Tensor, "1 heads total head_dim"],
    key: Float[Tensor, "1 key_heads total head_dim"],
    value: Float[Tensor, "1 key_heads total value_dim"],
    attention_mask: Pattern,
    *,
    layout: Layout,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Float[Tensor, " heads"] | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "1 total heads value_dim"], None]:
    """Attend inside each text.

    `layout` is passed as a keyword of the backbone's forward. It has no default: without it the texts of a row cannot
    be separated.

    Raises:
        TypeError: a mask that transformers did not describe by a rule, or an argument that is not known here.
    """
    if not isinstance(attention_mask, Pattern):
        raise TypeError("its masks are its own")
    if unknown := [name for name, given in others.items() if given is not None and name not in _WITHOUT_EFFECT]:
        raise TypeError(f"its attention has {', '.join(unknown)}")
    if layout.calls is not None:
        layout.calls.append(
            Call(query.shape[-1], value.shape[-1], dropout, capped=softcap is not None, sinks=s_aux is not None)
        )
    # squeeze, not [0], whose gradient would be a copy
    q, k, v = (x.transpose(1, 2).squeeze(0) for x in (query, key, value))
    output = attention_mask.kernel(
        q, k, v, attention_mask, layout, dropout=dropout, scaling=scaling, softcap=softcap, sinks=s_aux
    )
    return output[None], None


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, pattern)
