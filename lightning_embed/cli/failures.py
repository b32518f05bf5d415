"""Failures of the machine in one sentence: files, memory, network. Each names the file, the reason and the remedy.

Every other error that is not a `LightningEmbedError` is a fault of the program, and keeps its traceback.
"""

import errno
import os
import re
import traceback
from pathlib import Path

from lightning_embed.errors import CheckpointError, ConfigError, DataError, LightningEmbedError
from lightning_embed.storage import disk
from lightning_embed.storage.cache_dir import CACHE

_OFFLINE = (errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.ENETUNREACH, errno.EHOSTUNREACH)
_REASONS = {
    errno.ENOENT: "it does not exist",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.EEXIST: "it is a file, not a folder",
    errno.ENAMETOOLONG: "the name is too long for the file system",
    errno.ELOOP: "its symbolic links lead in a circle",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the device could not read or write it",
    errno.ESTALE: "the network file system has lost it: mount it again",
    errno.ENOLCK: "the file system has no locks",
}
_OF_PROCESS = {
    errno.EMFILE: "This process has too many open files ({}). Raise the limit: ulimit -n 65536, or set data.num_workers=0.",
    errno.ENFILE: "This machine has too many open files ({}). End other programs.",
    errno.EIO: "A device could not be read or written ({}). Check the disk, and start the same command again.",
    errno.ESTALE: "A network file system has lost a file ({}). Mount it again, and start the same command again.",
    errno.EROFS: "A file system is read-only ({}). Give an out= on another one.",
}
_IN_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors and tokenizers give the number in their message only
_SYMLINK_LOOP = re.compile(r"Symlink loop from '(.*)'")  # a RuntimeError of pathlib
_MEMORY = re.compile(r"can't allocate memory|out of memory|CUBLAS_STATUS_ALLOC_FAILED", re.IGNORECASE)
_SMALLER = "Lower batch_size or encoder.max_tokens, or set step=cached, which holds one chunk at a time."
_CONFIG = (".yaml", ".yml")
_ROWS = (".jsonl", ".json", ".csv", ".tsv", ".gz", ".bz2", ".xz", ".zst", ".parquet")


def explained(error: BaseException) -> LightningEmbedError | None:
    """The sentence for a failure of the machine; None: another kind of error."""
    if disk.is_full(error):
        file = getattr(error, "filename", None)
        return disk.refusal(Path(file) if isinstance(file, str) else None)
    if (number := _number(error)) is not None:
        return _of_files(error, number)
    return _of_text(error)


def _number(error: BaseException) -> int | None:
    """The number of an error of the operating system."""
    if isinstance(error, OSError):
        return error.errno
    if found := _IN_RUST.search(str(error)):
        return int(found[1])
    return errno.ELOOP if _SYMLINK_LOOP.fullmatch(str(error)) else None


def _of_files(error: BaseException, number: int) -> LightningEmbedError | None:
    if (name := _file(error, number)) is not None:
        return _of_path(name, number)
    if number in _OFFLINE:
        return ConfigError(f"The network failed ({error}). Start the same command again.")
    if number == errno.ENOENT and not _has_working_directory():
        return ConfigError("The working directory does not exist any more. Change to one that exists.")
    return CheckpointError(_OF_PROCESS[number].format(error)) if number in _OF_PROCESS else None


def _file(error: BaseException, number: int) -> str | None:
    """The file of an error; one in mid-file does not name it, but the function that reads or writes the file does."""
    if found := _SYMLINK_LOOP.fullmatch(str(error)):
        return found[1]
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    if name is not None:
        return os.fsdecode(name) if isinstance(name, (str, bytes)) else str(name)
    if number not in (errno.EIO, errno.ESTALE, errno.EISDIR):
        return None
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
    paths = [path for found in reversed(frames) for path in found.values() if isinstance(path, Path)]
    return next((str(path) for path in paths if path.is_file()), None)


def _of_path(name: str, number: int) -> LightningEmbedError:
    """The kind of error, and the remedy, depend on what the file is for."""
    path = Path(name)
    problem = f"{name if len(name) <= 300 else f'{name[:300]}...'}: {_REASONS.get(number, os.strerror(number))}."
    if number in (errno.EMFILE, errno.ENFILE):
        return CheckpointError(_OF_PROCESS[number].format(name))
    if path == CACHE or CACHE in path.parents or path in CACHE.parents:
        return ConfigError(f"{problem} It is of the cache folder: set LIGHTNING_EMBED_CACHE to a folder of yours.")
    if name.endswith(_CONFIG) and path.name != "run.yaml":
        return ConfigError(f"{problem} Expected a file of options: mend it, or give another --config-dir.")
    if name.endswith(_ROWS):
        return DataError(f"{problem} Expected a file of rows: mend it, or give another path.")
    return CheckpointError(f"{problem} Mend that, or give another path: out=, sources=, encoder.path= ...")


def _of_text(error: BaseException) -> LightningEmbedError | None:
    text = str(error)
    if isinstance(error, ValueError) and text.startswith("embedded null"):
        return ConfigError("A path holds a null character. Remove it.")
    if "DataLoader worker" in text:
        return ConfigError(
            f"A process that reads data ended ({_first_line(text)}). Often its memory was full: set data.num_workers=0, "
            "or give more memory (of a container, --shm-size)."
        )
    if isinstance(error, MemoryError):
        return ConfigError(f"The memory of this machine is full. {_SMALLER}")
    if type(error).__name__ == "OutOfMemoryError" or (isinstance(error, RuntimeError) and _MEMORY.search(text)):
        return ConfigError(f"The memory is full ({_first_line(text)}). {_SMALLER}")
    return None


def _first_line(text: str) -> str:
    return text.splitlines()[0].strip().rstrip(".") if text else ""


def _has_working_directory() -> bool:
    try:
        return bool(os.getcwd())
    except FileNotFoundError:
        return False
