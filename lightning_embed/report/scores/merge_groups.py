"""Groups of merge.json files: one set of sources, and all merges of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_embed.merge.record.record import NO_MERGE

Record = Mapping[str, Any]
"""merge.json."""

Geometry = Mapping[str, Any]
"""Its part `geometry`, or one group of that: see `lightning_embed.merge.diagnosis.geometry`."""


@dataclass(frozen=True)
class Examined:
    """Sources that were examined together, and their merges.

    Args:
        names: of the sources.
        geometry: of the sources.
        contents: identifies the sources and the base by name and digest.
        merges: name of a merge -> the geometry in its merge.json.
    """

    names: list[str]
    geometry: Geometry
    contents: str
    merges: Mapping[str, Geometry]

    @property
    def groups(self) -> Mapping[str, Geometry]:
        """The layers that a source has changed."""
        return {name: part for name, part in self.geometry["groups"].items() if any(part["delta_norms"])}


def examined(records: Mapping[str, Record]) -> list[Examined]:
    """Group the records by sources and base; those without a geometry are left out."""
    alike: dict[str, dict[str, Record]] = {}
    for name, record in records.items():
        if "groups" in (record["geometry"] or {}):  # an old merge.json has none
            alike.setdefault(contents(record), {})[name] = record
    return [_joined(found) for found in alike.values()]


def contents(record: Record) -> str:
    """Names and digests of the sources and the base of a record."""
    models = [*record["sources"], *([record["base"]] if record["base"] else [])]
    return repr([(model["name"], model["sha256"]) for model in models])


def _joined(records: Mapping[str, Record]) -> Examined:
    """One group; its geometry is that of an examination, if one exists, because only that has the stable ranks."""
    fullest = max(records.values(), key=lambda record: record["strategy"] == NO_MERGE)
    merges = {name: record["geometry"] for name, record in records.items() if record["geometry"]["merged_cosines"]}
    names = [source["name"] for source in fullest["sources"]]
    return Examined(names, fullest["geometry"], contents(fullest), merges)
