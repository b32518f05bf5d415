"""How good a model is: every metric is mteb's.

An evaluator answers `evaluation=<word>`: `check()` before training, its `parts`, one per test, after it.
mteb takes five seconds to import, so it is imported when an evaluator works.
"""

from lightning_embed.evaluation.cache import ScoreCache
from lightning_embed.evaluation.ensemble import Ensemble
from lightning_embed.evaluation.evaluator import Evaluator, Local, Mteb, Nothing, Part, TextEncoder
from lightning_embed.evaluation.shared import Shared

__all__ = ["Ensemble", "Evaluator", "Local", "Mteb", "Nothing", "Part", "ScoreCache", "Shared", "TextEncoder"]
