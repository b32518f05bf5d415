"""Publication of files and folders: written beside the target, flushed to the disk, renamed, and only then missed.

A reader finds the earlier content or the new one, also after a kill or a power cut: a rename is on the disk only if
everything that it publishes is, and what it replaces is removed last. (A rename without the flushes may leave an empty
file: ext4 and XFS write data and names at different times.)

A killed process leaves its hidden files. Their names have the machine, the process and its start, so that `settle`
removes those of dead processes alone, even where a new process has the number of a dead one.
"""

import errno
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning_embed.storage.disk import named_when_full

_NAME = re.compile(r"\.(?P<name>.+)\.(?P<kind>partial|old)\.(?P<host>.+)\.(?P<pid>\d+)(-(?P<start>\d+))?", re.DOTALL)
# of a folder that cannot be flushed: not a feature of the file system, or a folder that may not be listed
_NOT_FLUSHED = frozenset({errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EISDIR, errno.EACCES, errno.EPERM})


@contextmanager
def published_file(target: Path) -> Iterator[Path]:
    """Yield a hidden path beside `target`; the file written there becomes `target`, and is removed on failure.

    Missing folders are created. The file has the mode that the umask gives.

    Raises:
        CheckpointError: the disk is full.
    """
    partial = _hidden(target, "partial")
    try:
        with named_when_full(target):
            make_folder(target.parent)
            yield partial
            _flush(partial)
            os.replace(partial, target)
            _flush(target.parent)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def published_folder(target: Path, *, keep: bool = False, at: Callable[[str], None] = lambda _: None) -> Iterator[Path]:
    """Yield an empty hidden folder beside `target`; it becomes `target`, and is removed on failure.

    Every process has its own folder, so that several can write the same target. Its files get the mode that the umask
    gives, whatever the library that wrote them chose.

    Args:
        target: the folder to publish.
        keep: keep a folder that another process has published in the meantime; else the last one to end counts.
        at: called with "while_missing" between the two renames that replace an earlier folder, and with "replaced"
            before that is removed.

    Raises:
        CheckpointError: the disk is full.
    """
    partial, old = _hidden(target, "partial"), _hidden(target, "old")
    try:
        with named_when_full(target):
            make_folder(target.parent)
            partial.mkdir()
            yield partial
            _flush_all(partial)
            while not _put(partial, target, old, keep, at):
                _remove(old)
            _flush(target.parent)
            at("replaced")
    finally:
        with suppress(OSError):
            _settle(partial, old, target)


def settle(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes of this machine left in a folder; a target that one had moved away is put back.

    Files of living processes and of other machines stay.

    Args:
        folder: of the targets.
        name: of one target; None: all.
    """
    with suppress(OSError):
        for path in sorted(folder.iterdir(), reverse=True):  # an "old" one is put back whatever else is there
            found = _NAME.fullmatch(path.name)
            if found and name in (None, found["name"]) and _is_dead(found):
                target, is_old = path.with_name(found["name"]), found["kind"] == "old"
                with suppress(OSError):
                    _settle(None if is_old else path, path if is_old else None, target)


def settle_below(folder: Path) -> None:
    """`settle` a folder and all visible folders in it."""
    for parent, folders, _ in os.walk(folder):
        settle(Path(parent))
        folders[:] = [name for name in folders if not name.startswith(".")]


def discard(path: Path) -> None:
    """Remove a broken file of a cache, or a folder in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, so that a power cut cannot take a new one with all that is in it."""
    if not folder.is_dir():
        if folder.exists():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush(folder.parent)


def _put(partial: Path, target: Path, old: Path, keep: bool, at: Callable[[str], None]) -> bool:
    """Move the earlier folder away and the new one into its place; False: a different process wrote in between."""
    if not keep:
        with suppress(FileNotFoundError):
            target.rename(old)
        at("while_missing")
    try:
        partial.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return keep
    return True


def _settle(partial: Path | None, old: Path | None, target: Path) -> None:
    if old is not None and not target.exists():
        with suppress(FileNotFoundError):
            old.rename(target)
    for path in filter(None, (old, partial)):
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        discard(path)


def _hidden(target: Path, kind: str) -> Path:
    pid = os.getpid()
    _, start = _state(pid)
    return target.with_name(f".{target.name}.{kind}.{socket.gethostname()}.{pid}-{start or 0}")


def _is_dead(found: re.Match[str]) -> bool:
    """Whether a hidden name is of a process of this machine that has ended."""
    if found["host"] != socket.gethostname():
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # a process of a different user
        pass
    state, start = _state(int(found["pid"]))
    return state in ("Z", "X") or (start is not None and found["start"] not in (None, "0", start))


def _state(pid: int) -> tuple[str | None, str | None]:
    """State and start of a process, in clock ticks since the boot of the machine; None: a system without /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return None, None


def _flush_all(folder: Path) -> None:
    """Flush a folder and all that is in it; its files get the mode of new files."""
    mode = folder.stat().st_mode & 0o666  # of a folder that `mkdir` made under the umask
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            os.chmod(Path(parent, name), mode)
            _flush(Path(parent, name))
        _flush(Path(parent))


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = -1
    try:
        number = os.open(path, os.O_RDONLY)
        os.fsync(number)
    except OSError as error:
        if error.errno not in _NOT_FLUSHED or not path.is_dir():
            raise
    finally:
        if number >= 0:
            os.close(number)
