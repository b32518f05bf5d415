"""The copy of a run's folder on any storage that fsspec reaches, from which an empty machine goes on.

    <url>/<name of the folder>/<part>.json     index: path of each file -> size and SHA-256; and its owner
    <url>/<name of the folder>/<part>/<path>   the bytes, with letters of the SHA-256 in the name: model.3f2a9c1b5d7e0a42.safetensors

An index is written last and replaced whole. A file whose content changes gets another name, and the earlier one goes
after the index has changed. So whatever is cut off, an index lists whole files, all of one moment of the run.

A part is all of a run, or one expert of it (`experts.only`), so that machines which train an expert each share a copy.
The owner of a part is the folder that writes it. In a folder that is the owner, what is there counts. Any other takes
what the index lists and becomes the owner; the earlier one stops at its next copy.
"""

import json
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from filelock import FileLock

from lightning_embed.errors import CheckpointError, LightningEmbedError
from lightning_embed.storage import checksum, remote
from lightning_embed.storage.json_file import WrongShape, parsed
from lightning_embed.storage.mirror_files import (
    Entry,
    Index,
    Stamp,
    by_unit,
    entry_of,
    pin,
    place_of,
    places_of,
    published,
    stamps_of,
)
from lightning_embed.storage.publish import discard, make_folder, published_file, published_folder

_OWN = ".mirror"  # in the folder of the run: who it is, a lock, and the files that are being copied


class TakenOver(CheckpointError):
    """Another folder goes on with this run."""


class Mirror:
    """The copy of one folder.

    Args:
        url: of the storage, as fsspec has it; the copy is a folder in it, with the name of `out`.
        out: folder of the run.
        part: what this process trains of it: the name of an expert, or "run".

    Raises:
        ConfigError: the package of the file system is not installed.
        CheckpointError: a local folder that does not exist, as where a disk is not mounted.
    """

    def __init__(self, url: str, out: Path, part: str) -> None:
        self.url = f"{url.rstrip('/')}/{out.resolve().name}"
        self.out, self._part = out, part
        if not remote.is_remote(url) and not remote.as_path(url).is_dir():
            raise CheckpointError(f"mirror={url}: expected a folder that exists. Make it, or mount its disk.")
        self._system, self._root = remote.file_system(self.url)
        self._known: dict[str, tuple[Stamp, Entry]] = {}  # files as they were uploaded last
        self._pending: set[str] = set()  # names of uploaded files that the index does not list yet

    def fetch(self) -> int:
        """Bring what is on the storage, and become the owner. Returns the number of files that came.

        The index of this part counts where this folder was not the last one to write it; of other parts, what this folder
        has not. Every file is compared with its digest, before a model or a checkpoint is published whole.

        Raises:
            CheckpointError: the storage cannot be read or written, or a file on it is not whole.
        """
        number = 0
        with self._answering(), self._alone():
            indices = {part: index for part in self._parts() if (index := self._read(part)) is not None}
            own = indices.get(self._part)
            is_ours = own is not None and own["owner"] == self._owner()
            for part in sorted(indices, key=lambda part: (part == self._part, indices[part]["time"]), reverse=True):
                for unit, files in by_unit(indices[part]).items():
                    is_wanted = not is_ours if part == self._part else not (self.out / unit).exists()
                    if is_wanted and not self._has(unit, files):
                        self._fetch(part, unit, files)
                        number += len(files)
            if self._owner() is None:
                (self.out / _OWN / "owner").write_text(uuid.uuid4().hex)
            self._write({} if own is None else own["files"])
            if not is_ours:  # in a folder of ours, another process may be about to list what it uploaded
                self._remove_unlisted(set() if own is None else places_of(own["files"]))
        return number

    def _remove_unlisted(self, listed: set[str]) -> None:
        """Remove what a machine that was lost uploaded before its index listed it."""
        folder = f"{self._root}/{self._part}/"
        with suppress(FileNotFoundError):
            for path in self._system.find(folder.rstrip("/")):
                if path.startswith(folder) and path.removeprefix(folder) not in listed:
                    self._system.rm_file(path)

    def copy(self) -> None:
        """Make the copy equal to the folder as it is now.

        Raises:
            TakenOver: another folder has become the owner.
            CheckpointError: the storage cannot be read or written.
        """
        with self._answering(), self._alone():
            before = self._own_files()
            there = places_of(before) | self._pending
            with self._pinned() as (stamps, pins):
                for name, file in pins.items():
                    self._known[name] = stamps[name], self._upload(name, file, there)
            self._known = {name: self._known[name] for name in stamps}
            files = {name: entry for name, (_, entry) in self._known.items()}
            if files != before and self._own_files() == before:
                self._write(files)
                for place in sorted((places_of(before) | self._pending) - places_of(files)):
                    with suppress(FileNotFoundError):
                        self._system.rm_file(f"{self._root}/{self._part}/{place}")
                self._pending.clear()

    def _own_files(self) -> dict[str, Entry]:
        """The files that the index of this part lists; none if someone deleted it."""
        index = self._read(self._part)
        if index is None:
            self._known.clear()
            self._pending.clear()
            return {}
        if index["owner"] != self._owner():
            raise TakenOver(
                f"mirror={self.url}: {index['machine']} goes on with this run, so it stops here. Let one machine at a "
                "time train an expert; the command that is started last counts."
            )
        return index["files"]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the folder, which several processes of a sweep may share."""
        make_folder(self.out / _OWN)
        with FileLock(self.out / _OWN / "lock"):
            yield

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (LightningEmbedError, MemoryError):
            raise
        except Exception as error:  # of the network, of credentials, of a disk: each file system has its own
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise CheckpointError(
                f"mirror={self.url}: cannot be read and written ({reason}). Check the address, the credentials, the "
                "network and the room there; the same command goes on."
            ) from error

    def _owner(self) -> str | None:
        file = self.out / _OWN / "owner"
        return file.read_text() if file.exists() else None

    def _has(self, unit: str, files: Mapping[str, Entry]) -> bool:
        """Whether the folder has these files of a unit, and no others."""
        here = set(stamps_of(self.out, self.out / unit))
        return here == set(files) and all(
            checksum.sha256(self.out / name) == entry["sha256"] for name, entry in files.items()
        )

    def _fetch(self, part: str, unit: str, files: Mapping[str, Entry]) -> None:
        target = self.out / unit
        if target.is_dir() == (set(files) == {unit}):  # a checkpoint of a different strategy
            discard(target)
        if set(files) == {unit}:
            with published_file(target) as partial:
                self._download(part, unit, files[unit], partial)
            return
        with published_folder(target) as folder:
            for name, entry in files.items():
                file = folder / PurePosixPath(name).relative_to(unit)
                file.parent.mkdir(parents=True, exist_ok=True)
                self._download(part, name, entry, file)

    def _download(self, part: str, name: str, entry: Entry, file: Path) -> None:
        place = f"{part}/{place_of(name, entry)}"
        with suppress(FileNotFoundError):
            self._system.get_file(f"{self._root}/{place}", str(file))
        if not file.is_file() or entry_of(file) != entry:
            found = f"{file.stat().st_size} other bytes" if file.is_file() else "nothing"
            raise CheckpointError(
                f"mirror={self.url}: expected {place} with {entry['size']} bytes and the SHA-256 of its "
                f"upload, found {found}. Delete {part}.json there: the run goes on with what is on this machine."
            )

    @contextmanager
    def _pinned(self) -> Iterator[tuple[dict[str, Stamp], dict[str, Path]]]:
        """The files of one moment, and of those that have changed since the last copy, links that nobody writes to.

        The training goes on meanwhile: what it publishes is pinned again until nothing was published in between.
        """
        folder = self.out / _OWN / "files"
        try:
            while True:
                discard(folder)
                stamps = stamps_of(self.out, self.out)
                changed = [name for name, stamp in stamps.items() if self._known.get(name, (None,))[0] != stamp]
                try:
                    pins = {name: pin(self.out, name, folder) for name in changed}
                except FileNotFoundError:
                    continue
                if published(stamps) == published(stamps_of(self.out, self.out)):
                    break
            yield stamps, pins
        finally:
            discard(folder)

    def _upload(self, name: str, file: Path, there: set[str]) -> Entry:
        entry = entry_of(file)
        place = place_of(name, entry)
        if place not in there:
            self._put(file, f"{self._part}/{place}")
            self._pending.add(place)
        return entry

    def _put(self, file: Path, place: str) -> None:
        path = f"{self._root}/{place}"
        self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._system.put_file(str(file), path)
        if (size := self._system.info(path)["size"]) != file.stat().st_size:
            raise OSError(f"{place} has {size} bytes there, and {file.stat().st_size} here")

    def _write(self, files: Mapping[str, Entry]) -> None:
        owner = self._owner() or ""
        text = json.dumps(Index(owner=owner, machine=socket.gethostname(), time=time.time(), files=dict(files)))
        local, place = self.out / _OWN / "index.json", f"{self._part}.json"
        local.write_text(text)
        self._put(local, f"{place}.{owner}.partial")
        self._system.mv(f"{self._root}/{place}.{owner}.partial", f"{self._root}/{place}")

    def _read(self, part: str) -> Index | None:
        try:
            index: Index = parsed(self._system.cat_file(f"{self._root}/{part}.json"), Index)
        except FileNotFoundError:
            return None
        except WrongShape as reason:
            raise CheckpointError(
                f"mirror={self.url}: {part}.json: {reason}. Delete it: the run goes on with what is on this machine."
            ) from None
        return index

    def _parts(self) -> list[str]:
        self._system.invalidate_cache()  # listings, which other machines have changed
        try:
            places: list[str] = self._system.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(place).stem for place in places if place.endswith(".json"))
