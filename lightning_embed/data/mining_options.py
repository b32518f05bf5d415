"""The options of hard-negative mining."""

from dataclasses import dataclass, field
from enum import StrEnum

from lightning_embed.errors import ConfigError


class SamplingStrategy(StrEnum):
    """Selection of negatives among the candidates."""

    top = "top"  # the most similar ones
    random = "random"


class Teacher(StrEnum):
    """The model whose scores are written into mined rows, for loss=distill."""

    cross_encoder = "cross_encoder"  # its logits
    model = "model"  # its cosines


@dataclass(frozen=True)
class MiningOptions:
    """Hard-negative mining before training, with the option names of sentence-transformers' `mine_hard_negatives`.

    A relative_margin of 0.05 with sampling_strategy=top is TopK-PercPos of Moreira et al. 2024 (NV-Retriever, arXiv
    2407.15831). Scores are cosines; with a cross_encoder, max_score, min_score and the margins are of its scores.

    Args:
        datasets: names of the retrieval datasets to mine for; empty: none.
        num_negatives: maximum number of negatives added to a query; usually 10 or fewer.
        range_min: number of most similar documents to skip: they may be answers.
        range_max: lowest rank of a candidate; None: derived from num_negatives and the margins.
        max_score: maximum score of a candidate with its query.
        min_score: minimum score of a candidate with its query.
        absolute_margin: a candidate scores at least this much below the query's worst positive.
        relative_margin: the same, as a share of the positive's score.
        sampling_strategy: see `SamplingStrategy`.
        batch_size: texts per call of the model.
        model: directory or hub name of the embedding model that finds the negatives, with its own prompts; None: the
            base, with those of the datasets.
        cross_encoder: directory or hub name of a cross-encoder that scores what was found, by which max_score,
            min_score and the margins leave out false negatives; None: none.
        scores: writes scores of this model for all positives and negatives of the mined datasets, in place of those in
            their files; None: none.
        rounds: in all but the last, the negatives train a model on all datasets, as experts=joint from the base, which
            finds those of the next round; the experts are trained on the last ones. Each round costs a joint training.

    Raises:
        ConfigError: a count out of range, fewer candidates than num_negatives, or options that have no effect.
    """

    datasets: list[str] = field(default_factory=list)
    num_negatives: int = 5
    range_min: int = 0
    range_max: int | None = None
    max_score: float | None = None
    min_score: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    sampling_strategy: SamplingStrategy = SamplingStrategy.top
    batch_size: int = 32
    model: str | None = None
    cross_encoder: str | None = None
    scores: Teacher | None = None
    rounds: int = 1

    def __post_init__(self) -> None:
        for name, least in {"rounds": 1, "num_negatives": 1, "range_min": 0, "batch_size": 1}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"mining.{name}: expected at least {least}, got {getattr(self, name)}. Raise it.")
        if self.range_max is not None and self.range_max - self.range_min < self.num_negatives:
            raise ConfigError(
                f"mining.range_max: expected at least range_min + num_negatives = {self.range_min + self.num_negatives}"
                f", got {self.range_max}. Raise it, or leave it out."
            )
        self._check_models()

    def _check_models(self) -> None:
        given = [name for name in ("model", "cross_encoder", "scores") if getattr(self, name) is not None]
        if (idle := given or ["rounds"] * (self.rounds > 1)) and not self.datasets:
            raise ConfigError(
                f"mining.{idle[0]}: expected datasets to mine for, got none. Name them: mining.datasets=[...]."
            )
        if self.scores is not None and getattr(self, str(self.scores)) is None:
            base = " (the base would teach itself)" if self.scores == Teacher.model else ""
            raise ConfigError(
                f"mining.scores={self.scores}: expected mining.{self.scores}, the teacher, got none{base}. Give its "
                "directory or hub name."
            )
        if self.cross_encoder is not None and self.scores != Teacher.cross_encoder and not self.is_filtered:
            raise ConfigError(
                "mining.cross_encoder: expected something for it to score, got no margin, no max_score, no min_score "
                "and other scores. Set mining.relative_margin=0.05 to leave out false negatives by it, or "
                "mining.scores=cross_encoder to learn from it (loss@retrieval_loss=distill)."
            )

    @property
    def is_filtered(self) -> bool:
        """Whether candidates are left out by their scores."""
        limits = (self.max_score, self.min_score, self.absolute_margin, self.relative_margin)
        return any(limit is not None for limit in limits)
