"""What the doctor saw, as merge.json has it: one set of sources, and all that was merged of them."""

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
    """Sources that were looked at together.

    Args:
        names: of the sources.
        geometry: of the sources.
        contents: tells these sources from others of the same names.
        merges: name of a merge -> the geometry that was measured with it.
    """

    names: list[str]
    geometry: Geometry
    contents: str
    merges: Mapping[str, Geometry]

    @property
    def groups(self) -> Mapping[str, Geometry]:
        """The layers that some source has changed."""
        return {name: part for name, part in self.geometry["groups"].items() if any(part["delta_norms"])}


def examined(records: Mapping[str, Record]) -> list[Examined]:
    """Put together the records of the same sources and base; those without a geometry are left out."""
    alike: dict[str, dict[str, Record]] = {}
    for name, record in records.items():
        if "groups" in (record["geometry"] or {}):  # which an old merge.json has not
            alike.setdefault(contents(record), {})[name] = record
    return [_joined(found) for found in alike.values()]


def contents(record: Record) -> str:
    """What tells the sources and the base of a record from others."""
    models = [*record["sources"], *([record["base"]] if record["base"] else [])]
    return repr([(model["name"], model["sha256"]) for model in models])


def _joined(records: Mapping[str, Record]) -> Examined:
    """The doctor alone sees the most."""
    fullest = max(records.values(), key=lambda record: record["strategy"] == NO_MERGE)
    merges = {name: record["geometry"] for name, record in records.items() if record["geometry"]["merged_cosines"]}
    names = [source["name"] for source in fullest["sources"]]
    return Examined(names, fullest["geometry"], contents(fullest), merges)
