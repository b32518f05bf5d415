"""Reads back what W&B writes offline: `run-<id>.wandb`, a log of protobuf records."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_HEAD, _BLOCK = 7, 32768  # bytes of the file's head and of a block


@dataclass
class Offline:
    """What an offline run holds."""

    id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[Any] = field(default_factory=list)

    @property
    def keys(self) -> set[str]:
        return {key for row in self.history for key in row}

    def metadata(self, artifact: int = 0) -> dict[str, Any]:
        return json.loads(self.artifacts[artifact].metadata)

    def table(self, key: str, folder: Path) -> dict[str, Any]:
        """The table that was logged last under a key; `folder` is that of the run."""
        *_, file = (row[f"{key}.path"] for row in self.history if f"{key}.path" in row)
        return json.loads((folder / "files" / file).read_text())


def read_runs(out: Path) -> dict[Path, Offline]:
    """The offline runs below a folder, by their own folders; the same id may be there several times."""
    return {file.parent: read_run(file) for file in sorted(out.rglob("run-*.wandb"))}


def _settled(file: Path) -> bytes:
    """The content when wandb's service has written it: on a loaded machine that is after `finish` has returned."""
    content = b""
    for _ in range(200):
        before, content = content, file.read_bytes()
        if len(content) > _HEAD and content == before:
            break
        time.sleep(0.1)
    return content


def read_run(file: Path) -> Offline:
    found = Offline()
    for record in _records(_settled(file)):
        if record.HasField("run"):
            run = record.run
            found.id, found.name, found.group, found.job_type = (
                run.run_id,
                run.display_name,
                run.run_group,
                run.job_type,
            )
            found.config |= _values(run.config.update)
        found.config |= _values(record.config.update)
        if record.HasField("history"):
            found.history.append(_values(record.history.item))
        if record.HasField("request") and record.request.HasField("log_artifact"):
            found.artifacts.append(record.request.log_artifact.artifact)
        if record.HasField("artifact"):
            found.artifacts.append(record.artifact)
    return found


def _records(data: bytes) -> Iterator[Any]:
    """Chunks of <crc, length, kind>; kind 1 is a whole record, 2 begins one, 3 goes on, 4 ends it."""
    from wandb.proto import wandb_internal_pb2

    position, record = _HEAD, b""
    while position + 7 <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def _values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
