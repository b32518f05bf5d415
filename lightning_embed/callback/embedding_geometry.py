"""Geometry of the embeddings of a model, and of the token states that they are pooled from."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn.functional import normalize

from lightning_embed.encoder import Encoder
from lightning_embed.errors import ConfigError
from lightning_embed.runtime.permutation import Permutation
from lightning_embed.runtime.seeding import derive_seed

logger = logging.getLogger(__name__)

POSITIVE_SCORE = 0.8  # of 1: 4 of 5 in STS-B, where SimCSE draws the line (Gao et al. 2021, arXiv 2104.08821)
_MOST_ROWS = 10_000  # searched for pairs


@dataclass(frozen=True)
class Pairs:
    """Queries, a positive of each, their prompts, and the maximum numbers of their tokens (None: the encoder's)."""

    queries: Sequence[str]
    positives: Sequence[str]
    query_prompt: str | Sequence[str] = ""
    positive_prompt: str | Sequence[str] = ""
    query_length: int | None = None
    positive_length: int | None = None


class EmbeddingGeometry(Callback):
    """Logs `geometry/<measure>/<dataset>`: the geometry of embeddings and token states of dev pairs (else train pairs).

    Of the sentence embeddings x, y of pairs, on the unit sphere (Wang and Isola 2020, arXiv 2005.10242):

        alignment          mean |x - y|^2 of the pairs, in [0, 4]; low: positives are close
        uniformity         log mean exp(-2 |x - x'|^2) of the other pairs of one side, mean of both sides, in [-8, 0];
                           low: spread over the sphere

    Of the last layer's token states H (tokens x dim) of a text, mean over texts; CoDiEmb (2025, arXiv 2508.11442) names
    them and gives no formulas, so these are our reading. s are the singular values of H, p = s / sum s:

        token_similarity   mean cosine of two different tokens; low: tokens differ
        rank               number of s that are not zero, within the precision of the dtype
        svd_entropy        -sum p ln p, at most ln rank; high: no direction dominates
        condition_number   max s / min s, over those that are not zero; low: the same

    STS pairs count as positive from a score of 0.8 (of 1) on; our reading. All ranks measure the same.

    Args:
        every_n_steps: steps between two measurements; None: with every validation.
        num_texts: texts of each dataset, half of them queries; at least 4, typically 64.

    Raises:
        ConfigError: a number below its minimum.
    """

    def __init__(self, every_n_steps: int | None = None, num_texts: int = 64) -> None:
        if num_texts < 4 or (every_n_steps is not None and every_n_steps < 1):
            raise ConfigError(
                "embedding_geometry: num_texts must be at least 4 (two pairs) and every_n_steps at least 1 or null, "
                f"got {num_texts} and {every_n_steps}."
            )
        self.every_n_steps = every_n_steps
        self.num_texts = num_texts

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the pairs, the same after a resume."""
        self._pairs = dict(choose_pairs(trainer.datamodule, self.num_texts // 2))  # type: ignore[attr-defined]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measure every `every_n_steps` steps."""
        if self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0:
            self._log(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure with the validation."""
        if self.every_n_steps is None and not trainer.sanity_checking:
            self._log(trainer, pl_module)

    def _log(self, trainer: Trainer, pl_module: Any) -> None:
        pl_module.check_finite()
        numbers = {
            f"geometry/{measure}/{name}": value
            for name, pairs in self._pairs.items()
            for measure, value in geometry(pl_module.encoder, pairs).items()
        }
        for target in trainer.loggers:  # of rank zero; a sharded model runs on all ranks or on none
            target.log_metrics(numbers, trainer.global_step)


def choose_pairs(datamodule: Any, num_pairs: int) -> Iterator[tuple[str, Pairs]]:
    """At most `num_pairs` positive pairs of each dataset with at least two; a pure function of the seed."""
    for name, train in datamodule.train_rows.items():
        rows = datamodule.dev_rows.get(name, train)
        prompts = datamodule.prompts[name]
        groups = list(islice(_groups_of_pairs(name, rows, datamodule.seed), num_pairs))
        if len(groups) > 1:
            yield (
                name,
                Pairs(
                    [group.query for group in groups],
                    [group.positives[0] for group in groups],
                    [prompts.of_query(group) for group in groups],
                    [prompts.of_documents(group.positive_prompts, len(group.positives))[0] for group in groups],
                    rows.options.query_length,
                    rows.options.document_length,
                ),
            )
        else:
            logger.warning("geometry: %s has no two positive pairs, it is not measured.", name)


def _groups_of_pairs(name: str, rows: Any, seed: int) -> Iterator[Any]:
    """Positive pairs without a common text, in random order: neighbours in a file often share their document."""
    order = Permutation(len(rows), derive_seed(seed, "geometry", name))
    seen: set[str] = set()
    for row in order.first(min(len(rows), _MOST_ROWS)).tolist():
        group = rows.group(row, seed)
        if not group.positives or (group.score is not None and group.score < POSITIVE_SCORE):
            continue
        pair = group.query, group.positives[0]
        if seen.isdisjoint(pair):
            seen.update(pair)
            yield group


def geometry(encoder: Encoder, pairs: Pairs) -> dict[str, float]:
    """All measures of the embeddings and the token states of pairs."""
    queries = pairs.queries, pairs.query_prompt, pairs.query_length
    positives = pairs.positives, pairs.positive_prompt, pairs.positive_length
    x, y = (
        normalize(encoder.encode(texts, prompt=prompt, max_length=length), dim=-1)
        for texts, prompt, length in (queries, positives)
    )
    states = encoder.token_states(*queries) + encoder.token_states(*positives)
    return {
        "alignment": alignment(x, y),
        "uniformity": (uniformity(x) + uniformity(y)) / 2,
        **mean_token_geometry(states),
    }


def alignment(x: Float[Tensor, "pairs dim"], y: Float[Tensor, "pairs dim"]) -> float:
    """Mean |x - y|^2 of the rows."""
    return float((x - y).square().sum(1).mean())


def uniformity(x: Float[Tensor, "texts dim"], scale: float = 2.0) -> float:
    """Logarithm of the mean exp(-scale |x - x'|^2) of each two rows."""
    return float((-scale * torch.pdist(x).square()).exp().mean().log())


def mean_token_geometry(texts: Sequence[Float[Tensor, "_ dim"]]) -> dict[str, float]:
    """The measures of token states, each its mean over the texts that have it."""
    measures = [token_geometry(states) for states in texts]
    return {name: float(torch.tensor([m[name] for m in measures]).nanmean()) for name in measures[0]}


def token_geometry(states: Float[Tensor, "tokens dim"]) -> dict[str, float]:
    """All measures of the token states of one text."""
    s = spectrum(states)
    return {
        "token_similarity": token_similarity(states),
        "rank": float(len(s)),
        "svd_entropy": svd_entropy(s),
        "condition_number": float(s[0] / s[-1]),
    }


def token_similarity(states: Float[Tensor, "tokens dim"]) -> float:
    """Mean cosine of each two different tokens; NaN of a single one."""
    tokens, unit = len(states), normalize(states, dim=1)
    cosines = unit @ unit.T
    return float((cosines.sum() - cosines.trace()) / (tokens * (tokens - 1)))


def spectrum(states: Float[Tensor, "tokens dim"]) -> Float[Tensor, " rank"]:
    """The singular values that are not zero, largest first. Zero: below max s * max(tokens, dim) * eps, as in numpy."""
    s: Tensor = torch.linalg.svdvals(states)
    return s[s > s[0] * max(states.shape) * torch.finfo(states.dtype).eps]


def svd_entropy(s: Float[Tensor, " rank"]) -> float:
    """-sum p ln p of p = s / sum s, in nats."""
    return float(torch.special.entr(s / s.sum()).sum())
