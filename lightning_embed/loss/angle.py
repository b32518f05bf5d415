"""`loss=angle`."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.loss.base import Loss, check_temperature
from lightning_embed.loss.order import order_loss
from lightning_embed.loss.pairs import scores
from lightning_embed.registry import register
from lightning_embed.types import LossInput, LossOutput, Task


@register("loss", "angle")
@dataclass(frozen=True)
class AnglE(Loss):
    """CoSENT on angles in complex space, whose gradient does not vanish where cosines are near 1 or -1.

        L = log( 1 + sum over pairs i, j with y_i < y_j of exp( (a_i - a_j) / t ) )
        a = | sum_k Re(x_k conj(z_k)) + Im(x_k conj(z_k)) |

    x and z are the two unit embeddings of a pair, read as complex numbers: the first half of the dimensions is the
    real part, the second half the imaginary part. y is the score, t the temperature.

    Li & Li 2023, arXiv 2309.12871: the angle term of their objective, as sentence-transformers' AnglELoss has it.
    Where we differ: the paper adds a cosine and an in-batch term; an odd number of dimensions is refused, not padded.

    Args:
        temperature: divides the differences; in (0, inf), typically 0.05.
        cross_device: compare the pairs of all ranks.

    Raises:
        ConfigError: temperature not positive; when called, an odd number of dimensions.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.sts})

    temperature: float = 0.05
    cross_device: bool = True

    def __post_init__(self) -> None:
        check_temperature("angle", self.temperature)

    def __call__(self, batch: LossInput) -> LossOutput:
        """See the class."""
        embeddings = batch.embeddings.final
        if embeddings.shape[1] % 2:
            raise ConfigError(
                f"angle: embeddings must have an even number of dimensions, got {embeddings.shape[1]}. Use loss=cosent."
            )
        similarity = _similarity(embeddings[batch.query], embeddings[batch.positives[:, 0]])
        return LossOutput(order_loss(similarity / self.temperature, scores(batch)), {})


def _similarity(first: Float[Tensor, "rows dim"], second: Float[Tensor, "rows dim"]) -> Float[Tensor, " rows"]:
    """|Re + Im| of the complex product of every pair."""
    real1, imaginary1 = first.chunk(2, 1)
    real2, imaginary2 = second.chunk(2, 1)
    real = real1 * real2 + imaginary1 * imaginary2
    return (real + imaginary1 * real2 - real1 * imaginary2).sum(1).abs()
