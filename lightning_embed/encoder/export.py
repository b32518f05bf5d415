"""Further formats of a model directory, made and opened by the backends of sentence-transformers: `export=[openvino]`."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.requirements import Requirement

from lightning_embed.errors import CheckpointError, ConfigError, nearest
from lightning_embed.storage.publish import published_folder

RECORD = "export.json"
_PACKAGES = {"openvino": "optimum-intel", "onnx": "optimum-onnx"}
_REMEDIES = {
    "openvino": "pip install 'lightning-embed[openvino]', in an environment of its own: 2.2.0 needs transformers<5.6.",
    "onnx": "No version fits: 0.1.0 needs transformers<4.58, and sentence-transformers 6 needs 5. Use export=[openvino].",
}
_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "How do I reset my password?",
    "short",
    "An embedding model turns a text into a vector, so that similar texts have similar vectors. " * 20,
)
_LEAST_COSINE = 0.99


def check_export(words: Sequence[str]) -> None:
    """Refuse formats that cannot be made here.

    Raises:
        ConfigError: an unknown format, or one whose package is missing or does not fit the installed ones.
    """
    for word in words:
        if word not in _PACKAGES:
            raise ConfigError(f"export: expected openvino or onnx, got {word!r}. {nearest(word, _PACKAGES)}")
        package = _PACKAGES[word]
        try:
            needs = map(Requirement, distribution(package).requires or ())
        except PackageNotFoundError:
            raise ConfigError(f"export={word}: expected the package {package}, found none. {_REMEDIES[word]}") from None
        for need in needs:
            if (found := _unfit(need)) is not None:
                raise ConfigError(
                    f"export={word}: {package} {version(package)} needs {need.name}{need.specifier}, found {found}. "
                    "Install what it needs in an environment of its own."
                )


def _unfit(need: Requirement) -> str | None:
    """The installed version of a required package that does not fit; None: it fits, or is not required here."""
    if need.marker is not None and not need.marker.evaluate({"extra": ""}):
        return None
    try:
        found = version(need.name)
    except PackageNotFoundError:
        return "none"
    return None if need.specifier.contains(found, prereleases=True) else found


def export(model: Path, word: str) -> float:
    """Write `<model>/<word>/`, which `SentenceTransformer(model, backend=word)` opens, unless it is there.

    The digest of the model does not change: a merge, a run and a cache of scores read its safetensors alone.

    Args:
        model: a model directory.
        word: openvino or onnx.

    Returns:
        The least cosine between the embeddings of a few texts by the written format and by torch, both opened anew. It
        is also in `export.json` of the folder.

    Raises:
        CheckpointError: sentence-transformers cannot convert this model, or its embeddings would differ.
    """
    target = model / word
    if (record := target / RECORD).exists():
        return float(json.loads(record.read_text())["least_cosine"])
    try:
        with TemporaryDirectory() as folder:
            _open(model, word).save_pretrained(folder)
            cosine = _least_cosine(_open(model, "torch"), _open(Path(folder), word))
            if not cosine >= _LEAST_COSINE:
                raise CheckpointError(
                    f"export={word}: its embeddings have cosines with torch's down to {cosine:.4f}. Leave the export out."
                )
            facts = {"least_cosine": cosine, "versions": _versions(word)}
            with published_folder(target) as partial:
                for file in sorted((Path(folder) / word).iterdir()):
                    (partial / file.name).write_bytes(file.read_bytes())
                (partial / RECORD).write_text(json.dumps(facts) + "\n")
    except CheckpointError:
        raise
    except Exception as error:  # of optimum and its many layers
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"The model in {model} is complete, but was not exported to {word} ({type(error).__name__}: {reason}). "
            "Leave the export out."
        ) from error
    return cosine


def _open(model: Path, backend: str) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(model), backend=backend, device="cpu")


def _least_cosine(one: Any, other: Any) -> float:
    pairs = (each.encode(list(_TEXTS), normalize_embeddings=True) for each in (one, other))
    return float((next(pairs) * next(pairs)).sum(1).min())


def _versions(word: str) -> Mapping[str, str]:
    names = (_PACKAGES[word], "sentence-transformers", "transformers", "torch")
    return {name: version(name) for name in names}
