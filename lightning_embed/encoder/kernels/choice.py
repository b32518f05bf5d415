"""The choice of a kernel: by what a model needs, and the device on which it runs."""

import logging
from functools import cache

import torch

from lightning_embed.encoder.kernels.base import Kernel, Needs
from lightning_embed.encoder.kernels.batched import Batched
from lightning_embed.encoder.kernels.flash import Flash
from lightning_embed.encoder.kernels.flex import Flex
from lightning_embed.encoder.kernels.groups import GROUPS
from lightning_embed.encoder.kernels.varlen import Varlen
from lightning_embed.encoder.options import KernelWord
from lightning_embed.errors import ConfigError

logger = logging.getLogger(__name__)

KERNELS: dict[str, Kernel] = {kernel.word: kernel for kernel in (GROUPS, Varlen(), Flash(), Flex(), Batched())}


def can(word: KernelWord, needs: Needs) -> bool:
    """Whether a kernel has what is needed."""
    return word is KernelWord.auto or KERNELS[word].refusal(needs) is None


@cache
def choose(word: KernelWord, needs: Needs, model: str) -> Kernel:
    """The kernel of a word; of `auto`, the first that has all that is needed, said once for each model.

    Raises:
        ConfigError: the kernel does not have what the model needs.
    """
    if word is not KernelWord.auto:
        chosen = KERNELS[word]
        if (lacking := chosen.refusal(needs)) is not None:
            raise ConfigError(
                f"encoder.kernel={word}: expected a kernel that has what {model} needs, which is {lacking}. Use "
                "encoder.kernel=auto."
            )
    else:
        chosen = next(KERNELS[each] for each in _order(needs) if KERNELS[each].refusal(needs) is None)
    if chosen is not GROUPS:
        logger.info("%s: attention by the kernel %s on %s in %s.", model, chosen.word, needs.device, needs.dtype)
    if needs.call.dropout and not chosen.has_dropout:
        logger.warning(
            "%s: the kernel %s has no dropout of attention (%g in this model); that of the layers remains. "
            "encoder.attention_dropout=0 says so; the kernels with dropout are flash, batched and groups.",
            model, chosen.word, needs.call.dropout,
        )  # fmt: skip
    return chosen


def _order(needs: Needs) -> list[str]:
    if needs.device == "cpu":
        return ["groups"]
    if needs.dtype not in (torch.bfloat16, torch.float16):  # evaluation: the fused kernels of 16 bits are of no use
        return ["batched"]
    return [*(["flash"] if needs.call.dropout else []), "varlen", "flash", "flex", "batched"]
