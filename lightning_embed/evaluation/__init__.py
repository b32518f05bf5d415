"""Evaluation of models, with the metrics of mteb.

An `Evaluator` implements `evaluation=<word>`: `validate()` runs before training, its `parts`, one per test, after it.
mteb takes five seconds to import, so it is imported only when an evaluator runs.
"""

from lightning_embed.evaluation.base import Evaluator, Part, TextEncoder
from lightning_embed.evaluation.ensemble import Ensemble
from lightning_embed.evaluation.local import Local
from lightning_embed.evaluation.mteb import Mteb
from lightning_embed.evaluation.none import Nothing
from lightning_embed.evaluation.score_cache import ScoreCache
from lightning_embed.evaluation.sharded import Shared

__all__ = ["Ensemble", "Evaluator", "Local", "Mteb", "Nothing", "Part", "ScoreCache", "Shared", "TextEncoder"]
