"""What the doctor saw, as merge.json has it: one set of sources, and all that was merged of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]
"""merge.json."""

Geometry = Mapping[str, Any]
"""Its part `geometry`, or one group of that: see `lightning_embed.merge.geometry`."""

NOTHING = "none"  # the strategy of the doctor alone


@dataclass(frozen=True)
class Examined:
    """Sources that were looked at together.

    Args:
        names: of the sources.
        geometry: of the sources.
        merges: name of a merge -> the geometry that was measured with it.
    """

    names: list[str]
    geometry: Geometry
    merges: Mapping[str, Geometry]

    @property
    def groups(self) -> Mapping[str, Geometry]:
        """The layers that some source has changed."""
        return {name: part for name, part in self.geometry["groups"].items() if any(part["delta_norms"])}


def examined(records: Mapping[str, Record]) -> list[Examined]:
    """Put together the records of the same sources and base; those without a geometry are left out."""
    alike: dict[str, dict[str, Record]] = {}
    for name, record in records.items():
        if record["geometry"]:
            alike.setdefault(_contents(record), {})[name] = record
    return [_joined(found) for found in alike.values()]


def _contents(record: Record) -> str:
    return repr(
        [
            (model["name"], model["sha256"])
            for model in (*record["sources"], record["base"] or {"name": "", "sha256": ""})
        ]
    )


def _joined(records: Mapping[str, Record]) -> Examined:
    """The doctor alone sees the most."""
    fullest = max(records.values(), key=lambda record: record["strategy"] == NOTHING)
    merges = {name: record["geometry"] for name, record in records.items() if record["geometry"]["merged_cosines"]}
    return Examined([source["name"] for source in fullest["sources"]], fullest["geometry"], merges)
