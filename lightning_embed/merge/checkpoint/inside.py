"""Paths that the files of a model directory name: none leads out of the directory."""

import os
from pathlib import Path, PurePath

from lightning_embed.errors import CheckpointError

_COPY = "Copy the model again, or remove this entry."
_LONGEST = 255  # bytes of a file name, on all common file systems


def inside(folder: Path, name: str) -> Path:
    """The path of `name` in a model directory, which may not exist.

    Symbolic links are followed: they end in the directory as well, or, in a snapshot of the hub's cache
    (`<repository>/snapshots/<commit>/config.json -> ../../blobs/<hash>`), in the blobs of the same repository.

    Args:
        folder: the directory, or a folder in it; a path of the user, which may be a link itself.
        name: as a file of the directory has it (modules.json, an index of shards, a listing); `""` is the directory.

    Raises:
        CheckpointError: the path leads out of the directory, cannot exist, or is a broken link, a pipe or a device.
    """
    if (reason := _unusable(name)) is not None:
        raise CheckpointError(f"{folder}: expected the name of a file in it, found {name[:80]!r}, {reason}. {_COPY}")
    path = folder / name
    root, end = (Path(os.path.realpath(place)) for place in (folder, path))
    if not any(end.is_relative_to(home) for home in _homes(root)):
        raise CheckpointError(f"{path} is a link that leads out of its model, to {end}. Replace it by the file itself.")
    if os.path.lexists(path) and not end.exists():
        raise CheckpointError(f"{path} is a broken link, to {end}. {_COPY}")
    if end.exists() and not (end.is_file() or end.is_dir()):
        raise CheckpointError(f"{path}: expected a file, found a pipe or a device. {_COPY}")
    return path


def _unusable(name: str) -> str | None:
    """Why a name is not the name of a file below a folder; None: it is one."""
    if "\0" in name:
        return "which contains a zero byte"
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can write
        return "which is not valid Unicode"
    path = PurePath(name)
    if path.is_absolute():
        return "an absolute path"
    if ".." in path.parts:
        return "which leads out of it"
    if size > 10 * _LONGEST or any(len(os.fsencode(part)) > _LONGEST for part in path.parts):
        return "which is too long"
    return None


def _homes(root: Path) -> list[Path]:
    """Where the files of a model may be: in its directory, and in the blobs of a snapshot of the hub's cache."""
    caches = [place.parent.parent for place in (root, *root.parents) if place.parent.name == "snapshots"]
    return [root, *(cache / "blobs" for cache in caches)]
