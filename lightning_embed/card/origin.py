"""What is known of a model that a run did not make itself: by its own card, or by where it lies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_embed.card.training import Training

FILE = "README.md"
KEY = "lightning_embed"  # of what we keep in the front matter, beside what the hub reads there
_SNAPSHOT = re.compile(r".*/models--(?P<name>[^/]+)/snapshots/[^/]+/?")


@dataclass(frozen=True)
class Origin:
    """A model's past.

    Args:
        names: on the hub: its own, or of a model that we made, its base's; empty: not known.
        license: as the hub writes it; None: not known.
        languages: as its card gives them; empty: not known.
        training: how we trained it; None: we did not.
    """

    names: list[str] = field(default_factory=list)
    license: str | None = None
    languages: list[str] = field(default_factory=list)
    training: Training | None = None

    @classmethod
    def of(cls, path: str, revision: str | None = None) -> "Origin":
        """Of a model directory or a name on the hub. What cannot be read is not known."""
        said = _front_matter(path, revision)
        names = [found for found in [_hub_name(path)] if found]
        training = None
        if isinstance(ours := said.get(KEY), dict):
            names = _listed(said.get("base_model"))
            training = Training.read(ours.get("training"))
        return cls(names, _license(said), _listed(said.get("language")), training)


def _hub_name(path: str) -> str | None:
    if found := _SNAPSHOT.fullmatch(str(Path(path).absolute())):
        return found["name"].replace("--", "/")
    return None if Path(path).exists() else path


def _front_matter(path: str, revision: str | None) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download, metadata_load

    try:
        file = Path(path) / FILE if Path(path).is_dir() else hf_hub_download(path, FILE, revision=revision)
        return metadata_load(file) or {}
    except Exception:  # no card, a broken one, nobody to ask: a card is written all the same
        return {}


def _license(said: Mapping[str, Any]) -> str | None:
    """One licence, and one that says which it is."""
    found = [name for name in _listed(said.get("license")) if name != "other"]
    return found[0] if len(found) == 1 else None


def _listed(value: Any) -> list[str]:
    """Words; YAML reads Norwegian's `no` as false."""
    values = value if isinstance(value, list) else [value]
    return ["no" if each is False else each for each in values if isinstance(each, str) or each is False]
