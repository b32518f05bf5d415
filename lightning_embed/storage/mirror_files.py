"""The files of a run as its copy on a storage has them: what is published whole, names there, and links that stay."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from typing_extensions import TypedDict

_PARENTS = ("models", "merged", "folded", "probe")  # whose entries are published whole
_CHECKPOINT = "last.ckpt"  # a file, or the folder of a sharded training
_LETTERS = 16  # of the digest, in the name of a stored file

Stamp = tuple[int, int, int]


class Entry(TypedDict):
    """Size in bytes and digest of a file."""

    size: int
    sha256: str


class Index(TypedDict):
    """The files of a run by path, and who wrote this: folder, name of the machine, seconds of its clock."""

    owner: str
    machine: str
    time: float
    files: dict[str, Entry]


def unit_of(name: str) -> str:
    """The path of what was published whole with a file: a model, a merge, a checkpoint, else the file itself."""
    parts = PurePosixPath(name).parts
    for number, part in enumerate(parts[:-1]):
        if part in _PARENTS or part == _CHECKPOINT:
            return "/".join(parts[: number + (2 if part in _PARENTS else 1)])
    return name


def is_whole(name: str) -> bool:
    """Whether a file is published as a whole, never changed in its place."""
    return unit_of(name) != name or name.endswith(f"/{_CHECKPOINT}")


def stamps_of(out: Path, below: Path) -> dict[str, Stamp]:
    """What changes with the content of a file: of the visible files in a folder, or of one file, by path from `out`."""
    found = {}
    for parent, folders, names in os.walk(below) if below.is_dir() else [(str(below.parent), [], [below.name])]:
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(parent, name)
            if not (name.startswith(".") or name == "lock" or file.suffix == ".lock"):
                with suppress(FileNotFoundError):
                    now = file.stat()
                    found[file.relative_to(out).as_posix()] = now.st_ino, now.st_size, now.st_mtime_ns
    return found


def by_unit(index: Index) -> dict[str, dict[str, Entry]]:
    """The files of an index, by what was published whole with them."""
    units: dict[str, dict[str, Entry]] = {}
    for name, entry in index["files"].items():
        units.setdefault(unit_of(name), {})[name] = entry
    return units


def published(stamps: Mapping[str, Stamp]) -> dict[str, Stamp | None]:
    """What must not change while files are pinned: names, and the content of what is published whole."""
    return {name: stamp if is_whole(name) else None for name, stamp in stamps.items()}


def pin(out: Path, name: str, folder: Path) -> Path:
    """Keep the present content of a file of the run in another folder: by a link if it is published whole, else by a copy."""
    file, target = out / name, folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if is_whole(name):
            os.link(file, target)
            return target
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        pass
    return Path(shutil.copyfile(file, target))


def entry_of(file: Path) -> Entry:
    """Size and digest of a file that nobody writes."""
    with file.open("rb") as stream:
        return Entry(size=file.stat().st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())


def place_of(name: str, entry: Entry) -> str:
    """The path of a file on the storage, which no other content has."""
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}.{entry['sha256'][:_LETTERS]}{path.suffix}"))


def places_of(files: Mapping[str, Entry]) -> set[str]:
    """The paths of files on the storage."""
    return {place_of(name, entry) for name, entry in files.items()}
