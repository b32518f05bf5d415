"""Scores that were measured before: the same weights on the same tests by the same evaluator are not measured again."""

import json
import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile

from lightning_embed.evaluation.ensemble import Ensemble
from lightning_embed.evaluation.evaluator import Evaluator, TextEncoder
from lightning_embed.fingerprint import fingerprint
from lightning_embed.hashing import sha256
from lightning_embed.types import EvalSet, Results


class ScoreCache:
    """Keeps the scores of model directories, by their content and by everything that the scores depend on.

    Args:
        evaluator: what measures; two measure the same if they read the same (`repr`), and so do two `load`.
        eval_sets: the run's own dev and test sets.
        folder: where scores are kept, one small file per model.
        load: opens a model directory.
    """

    def __init__(
        self, evaluator: Evaluator, eval_sets: Sequence[EvalSet], folder: Path, load: Callable[[Path], TextEncoder]
    ) -> None:
        self.evaluator = evaluator
        self.eval_sets = eval_sets
        self.folder = folder
        self.load = load
        versions = [version(package) for package in ("mteb", "torch", "transformers")]
        code = fingerprint(Path(__file__).parent.parent)
        self.tests = blake2b(repr((evaluator, load, versions, code, *eval_sets)).encode())

    def __call__(self, *models: Path) -> Results:
        """Score a model directory, or the ensemble of several; or remember the scores."""
        file = self.folder / f"{self._key(models)}.json"
        if not file.exists():
            encoders = [self.load(model) for model in models]
            self._keep(file, self.evaluator(encoders[0] if len(encoders) == 1 else Ensemble(encoders), self.eval_sets))
        results: Results = json.loads(file.read_text())
        return results

    def _key(self, models: Sequence[Path]) -> str:
        key = self.tests.copy()
        for digest in sorted(map(_digest, models)):  # a mean does not depend on the order
            key.update(digest)
        return key.hexdigest()[:32]

    def _keep(self, file: Path, results: Results) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=self.folder, delete=False) as temporary:
            json.dump(results, temporary)
        os.replace(temporary.name, file)


def _digest(model: Path) -> bytes:
    """Of all files of a model directory."""
    digest = blake2b()
    for file in sorted(path for path in model.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(model)).encode())
        digest.update(bytes.fromhex(sha256(file)))
    return digest.digest()
