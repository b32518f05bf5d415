"""Origin of a model that a run did not make: name, licence and training, from its card or its path."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_embed.card.training import Training
from lightning_embed.storage.unique_names import repository

FILE = "README.md"
KEY = "lightning_embed"  # of our own entry in the front matter; the hub ignores it


@dataclass(frozen=True)
class Origin:
    """The known facts about a model's past.

    Args:
        names: on the hub: its own, or its base's if this package made it; empty: not known.
        license: as the hub writes it; None: not known.
        languages: those in its card; empty: not known.
        training: facts of its training; None: this package did not train it.
    """

    names: list[str] = field(default_factory=list)
    license: str | None = None
    languages: list[str] = field(default_factory=list)
    training: Training | None = None

    @classmethod
    def of(cls, path: str, revision: str | None = None) -> "Origin":
        """The origin of a model directory or of a name on the hub. Facts that cannot be read are not known."""
        metadata = _front_matter(path, revision)
        names = [found for found in [_hub_name(path)] if found]
        training = None
        if isinstance(ours := metadata.get(KEY), dict):
            names = _listed(metadata.get("base_model"))
            training = Training.read(ours.get("training"))
        return cls(names, _license(metadata), _listed(metadata.get("language")), training)


def _hub_name(path: str) -> str | None:
    return repository(Path(path)) or (None if Path(path).exists() else path)


def _front_matter(path: str, revision: str | None) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download, metadata_load

    try:
        file = Path(path) / FILE if Path(path).is_dir() else hf_hub_download(path, FILE, revision=revision)
        return metadata_load(file) or {}
    except Exception:  # no card, a broken one, no network: our card is written all the same
        return {}


def _license(metadata: Mapping[str, Any]) -> str | None:
    """The licence, if the card names exactly one; `other` is no name."""
    found = [name for name in _listed(metadata.get("license")) if name != "other"]
    return found[0] if len(found) == 1 else None


def _listed(value: Any) -> list[str]:
    """The strings of a value or a list; YAML reads `no`, for Norwegian, as false."""
    values = value if isinstance(value, list) else [value]
    return ["no" if each is False else each for each in values if isinstance(each, str) or each is False]
