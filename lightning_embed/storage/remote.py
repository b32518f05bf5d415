"""Paths of remote file systems through fsspec: s3://, gs://, hf://, https://, memory:// ..."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from lightning_embed.errors import ConfigError, DataError, LightningEmbedError
from lightning_embed.storage import disk

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_VERSION = (
    "etag",
    "last",
    "mtime",
    "modif",
    "creat",
    "updated",
    "generation",
    "version",
    "md5",
    "blob",
    "lfs",
    "digest",
)


def is_remote(place: str) -> bool:
    """Whether a path begins with the name of a file system, as in s3://bucket/rows.jsonl; not file://."""
    return _SCHEME.match(place) is not None and not place.lower().startswith("file://")


def as_path(place: str) -> Path:
    """The path of a local file, or of one on a remote file system, with the methods of pathlib.

    Raises:
        ConfigError: an unknown file system, or one whose package is not installed.
    """
    if not is_remote(place):
        return Path(unquote(urlsplit(place).path) if place.lower().startswith("file://") else place)
    from upath import UPath

    try:
        path = UPath(place)
        path.fs  # noqa: B018  imports its package
    except ImportError as error:
        raise ConfigError(f"{place}: its package is not installed. {str(error).rstrip('.')}.") from None
    except Exception as error:  # of fsspec, or of the package of the file system
        raise ConfigError(f"{place}: expected a file system of fsspec, as in s3:// or hf:// ({error}).") from None
    return cast("Path", path)  # it is none, and has its methods


@contextmanager
def answering(place: object) -> Iterator[None]:
    """Turn whatever a remote file system raises into one sentence.

    Raises:
        DataError: it cannot be reached, or refuses.
    """
    try:
        yield
    except (LightningEmbedError, FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # of the network, of credentials: each file system has its own
        if disk.is_full(error):
            raise
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise DataError(
            f"{place}: cannot be read ({reason}). Check the address, the credentials and the network."
        ) from error


def version(path: Any) -> str | None:
    """What changes with the content of a remote file, such as its ETag and its size; None: its system names nothing."""
    info = path.fs.info(path.path)
    marks = {key: value for key, value in info.items() if any(word in key.lower() for word in _VERSION)}
    found = {key: str(value) for key, value in marks.items() if value}
    return repr((info.get("size"), sorted(found.items()))) if found else None


def file_system(place: str) -> tuple[Any, str]:
    """The file system of fsspec that holds a folder, and the folder's path in it.

    Raises:
        ConfigError: an unknown file system, or one whose package is not installed.
    """
    from upath import UPath

    path: Any = as_path(place)
    if isinstance(path, Path):
        path = UPath(str(path.absolute()), protocol="file")
    return path.fs, path.path
