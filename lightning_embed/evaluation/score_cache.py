"""A cache of scores on disk: the same weights are evaluated on the same test once."""

import inspect
import json
from collections.abc import Callable, Sequence
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

from lightning_embed.evaluation.base import Evaluator, TextEncoder
from lightning_embed.evaluation.embedding_cache import Remembered
from lightning_embed.evaluation.ensemble import Ensemble
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.checksum import directory_digest
from lightning_embed.storage.code_fingerprint import fingerprint
from lightning_embed.storage.json_file import cached_json
from lightning_embed.storage.publish import discard
from lightning_embed.types import EvalSet, Results, Score


class ScoreCache:
    """Evaluates model directories and keeps each score under a hash of the model, the test, the code and its versions.

    Args:
        evaluator: its parts are the tests.
        eval_sets: the run's own dev and test sets.
        folder: folder of the scores, one small file per model and test.
        load: opens a model directory; its `repr` identifies its settings.
        embeddings: folder of the embeddings, one database per model; None: embeddings are not kept.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        eval_sets: Sequence[EvalSet],
        folder: Path,
        load: Callable[[Path], TextEncoder],
        embeddings: Path | None = None,
    ) -> None:
        self.folder = folder
        self.load = load
        self.embeddings = embeddings
        versions = [version(package) for package in ("mteb", "torch", "transformers")]
        package = Path(__file__).parent.parent
        code = [fingerprint(package / room) for room in ("encoder", "evaluation")]
        if not (own := Path(inspect.getfile(type(evaluator)))).is_relative_to(package):  # an evaluator of the user's
            code.append(blake2b(own.read_bytes()).hexdigest())
        self.key = blake2b(repr((load, versions, code)).encode())
        self.parts = [
            (part, blake2b(repr((load, versions, code, part.key)).encode())) for part in evaluator.parts(eval_sets)
        ]

    def __call__(self, *models: Path) -> Results:
        """The scores of a model directory, or of the ensemble of several."""
        digests = sorted(map(directory_digest, models))  # a mean does not depend on the order
        encoder: TextEncoder | None = None
        results: Results = {}
        for part, key in self.parts:
            key = key.copy()
            for digest in digests:
                key.update(digest.encode())
            file = self.folder / f"{key.hexdigest()[:32]}.json"
            score: Score | None = cached_json(file, Score)
            if score is None:
                encoder = encoder or self._open(models)
                text = json.dumps(part.run(encoder))
                discard(file)
                write_whole(file, text)
                score = json.loads(text)
            results.setdefault(part.split, {})[part.name] = score
        return results

    def _open(self, models: Sequence[Path]) -> TextEncoder:
        encoders = [self._remembering(self.load(model), model) for model in models]
        return encoders[0] if len(encoders) == 1 else Ensemble(encoders)

    def _remembering(self, encoder: TextEncoder, model: Path) -> TextEncoder:
        if self.embeddings is None:
            return encoder
        key = self.key.copy()
        key.update(directory_digest(model).encode())
        return Remembered(encoder, self.embeddings / f"{key.hexdigest()[:32]}.sqlite")
