"""`loss=learned_temperature`."""

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.loss.base import Contrastive, Learned
from lightning_embed.loss.wrapper import Wrapper
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput

LOG_SCALE = "log_scale"


@register("loss", "learned_temperature")
@dataclass(frozen=True)
class LearnedTemperature(Wrapper):
    """A contrastive loss whose temperature is trained with the encoder.

        t = exp(-log_scale),  log_scale = -log(temperature of the wrapped loss) at the start

    log_scale is a parameter of the training, one per task: in its checkpoints, in no exported model; without weight
    decay; clamped after every step so that t stays within [min_temperature, max_temperature]; not part of the clipped
    gradient. `temperature` in the logs is t. Dev losses are those at the temperature of their step, so that they compare
    checkpoints less well; outside of a training (a merge's probe) the temperature is the start. A step on another task
    leaves only the optimiser's momentum to move it.

    Radford et al. 2021, arXiv 2103.00020 (CLIP), which starts at 0.07 and clamps at 0.01. Where we differ: a learning
    rate of its own, because that of a fine-tuned encoder (1e-5) would hardly move it in some hundred steps.

    Args:
        loss: the wrapped loss (infonce, infonce_hard, infonce_joint, multi_positive ...), or its options with its word as
            `name`. It stands innermost: matryoshka wraps learned_temperature, not the reverse.
        min_temperature: in (0, inf), typically 0.01.
        max_temperature: at least min_temperature.
        lr: learning rate of log_scale, times the schedule; in (0, inf), typically 1e-3.

    Raises:
        ConfigError: the loss is not contrastive, its temperature is out of bounds, or a number is out of range.
    """

    min_temperature: float = 0.01
    max_temperature: float = 1.0
    lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.inner, Contrastive):
            raise ConfigError(
                f"learned_temperature: expected a contrastive loss, got {type(self.inner).__name__}. Wrap infonce or "
                "multi_positive; around those, matryoshka."
            )
        if not self.lr > 0:
            raise ConfigError(f"learned_temperature: lr must be positive, got {self.lr}. Usual: 1e-3.")
        if not 0 < self.min_temperature <= self.inner.temperature <= self.max_temperature:
            raise ConfigError(
                f"learned_temperature: expected 0 < min_temperature <= temperature of the loss <= max_temperature, got "
                f"{self.min_temperature}, {self.inner.temperature} and {self.max_temperature}."
            )

    @property
    def learned(self) -> Mapping[str, Learned]:
        """The logarithm of the inverse temperature."""
        assert isinstance(self.inner, Contrastive)
        start, low, high = (-math.log(t) for t in (self.inner.temperature, self.max_temperature, self.min_temperature))
        return {LOG_SCALE: Learned(start, low, high, self.lr)}

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        if LOG_SCALE not in batch.learned:
            return self.inner(batch)
        temperature = (-batch.learned[LOG_SCALE]).exp().to(batch.embeddings.final.dtype)
        output = self._at(temperature)(batch)
        return LossOutput(output.value, {**output.logs, "temperature": temperature.detach()})

    def _at(self, temperature: Float[Tensor, ""]) -> Contrastive:
        """The wrapped loss with a tensor for its temperature, unchecked: a check would make a GPU wait."""
        assert isinstance(self.inner, Contrastive)
        loss = copy(self.inner)
        object.__setattr__(loss, "temperature", temperature)
        return loss
